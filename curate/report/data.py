"""What the report reads: the tables of a dataset directory as they are now, with or without the later steps."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.columns import COLUMNS
from curate.dataset.captions import CAPTION_COLUMNS
from curate.dataset.dataset import Dataset
from curate.dataset.scans import current_videos
from curate.dataset.schemas import INDEX
from curate.dataset.sources import of_current
from curate.dataset.table import read_parquet
from curate.rules import Rule
from curate.scan import ScanConfig
from curate.select import SelectConfig, absolute
from curate.storage.place import locate

FACTS = frozenset(
    {"clip_id", "video_id", "video_uri", "kind", "start_s", "end_s", "start_pts", "end_pts", "time_base", "fps"}
    | {"width", "height", "num_frames", "split", "decision", "reasons", "duplicate_group", "duplicate_of"}
    | {"failed_step", "unscored", "shot", "num_shots", "transition_before", "left_out_before", "transition_after"}
    | {"left_out_after"}
)
"""Columns of clips.parquet that are neither scores nor the user's own."""
MAX_REVIEWED = 20_000
"""Clips whose captions are read; of more an even sample."""
NOT_RULED = frozenset({"balance_weight"})
"""Numbers of clips.parquet that come after the decision."""


@dataclass(frozen=True, kw_only=True)
class DatasetView:
    """A dataset directory as read. Tables of steps that have not run are empty.

    Attributes:
        config: config.yaml: what each step ran with.
        num_files: input files, by URI.
        failures: typed failures that still stand, of files and of clips.
        num_failed_files: how many input files have no clips because they could not be read.
        num_forgotten: how many input files were taken down.
        clips: clips.parquet: every clip with its decision, reasons and scores.
        index: shards/index.parquet: the kept clips that are cut, with their captions.
        encoded: ids of the clips that have latents, strings; one stands there for each of its latents.
        captions: records of the clips, or of a sample, with any status, as people judged them.
    """

    url: str
    config: Mapping[str, Any]
    num_files: int
    num_failed_files: int
    num_forgotten: int
    failures: list[dict[str, Any]]
    clips: pa.Table
    index: pa.Table
    encoded: pa.Array
    captions: pa.Table

    @property
    def made_with(self) -> Mapping[str, Any]:
        """What the last `curate` that came to its end ran with; empty if none did."""
        return self.config.get("curate", {})

    @cached_property
    def rules(self) -> Mapping[str, Rule]:
        """Column → rule of the policy that the dataset was last decided with, its bounds absolute."""
        return absolute(self.given_rules, self.clips)

    @cached_property
    def given_rules(self) -> Mapping[str, Rule]:
        """The same as they were given, with relative bounds."""
        return rules_given(self.made_with)

    @property
    def caption_note(self) -> str | None:
        """What a reader of the captions must know; None: nothing."""
        return self.config.get("caption_note")

    @cached_property
    def num_captioned(self) -> int:
        """Cut clips with a caption of any level."""
        columns = [self.index[name] for name in CAPTION_COLUMNS if name in self.index.column_names]
        return int(pc.sum(reduce(pc.or_, map(pc.is_valid, columns))).as_py() or 0)

    @cached_property
    def num_encoded(self) -> int:
        """Cut clips with latents."""
        return int(pc.sum(pc.is_in(self.index["clip_id"], self.encoded)).as_py() or 0)

    def groups_of(self, rows: Iterable[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
        """The duplicate groups of these clips: name → rows of all their members."""
        names = {row["duplicate_group"] for row in rows if row.get("duplicate_group") is not None}
        if not names:
            return {}
        groups: dict[str, list[dict[str, Any]]] = {name: [] for name in sorted(names)}
        for row in self.clips.filter(pc.is_in(self.clips["duplicate_group"], pa.array(groups))).to_pylist():
            groups[row["duplicate_group"]].append(row)
        return groups

    def members(self, clip_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Rows of the index by clip id, for those of `clip_ids` that are in it."""
        rows = self.index.filter(pc.is_in(self.index["clip_id"], pa.array(clip_ids, pa.string()))).to_pylist()
        return {row["clip_id"]: row for row in rows}

    def count(self, decision: str) -> int:
        return int(pc.sum(pc.equal(self.clips["decision"], decision)).as_py() or 0)

    def decided(self, decision: str) -> pa.Table:
        return self.clips.filter(pc.equal(self.clips["decision"], decision))

    def reasons(self) -> list[tuple[str, int, int]]:
        """`(rule, clips it rejects, clips that it alone rejects)`, the most frequent first."""
        lists = self.clips["reasons"].filter(pc.equal(self.clips["decision"], "reject"))
        every = _counts(pc.list_flatten(lists))
        alone = _counts(pc.list_flatten(lists.filter(pc.equal(pc.list_value_length(lists), 1))))
        rows = [(reason, count, alone.get(reason, 0)) for reason, count in every.items()]
        return sorted(rows, key=lambda row: (-row[1], row[0]))

    def score_names(self) -> list[str]:
        """Those of `numbers` with at least one value."""
        return [name for name in self.numbers() if self.clips[name].null_count < self.clips.num_rows]

    def numbers(self) -> list[str]:
        """Numeric columns: first facts, signals and scores, in their order, then the user's own."""
        names = [field.name for field in self.clips.schema if field.name not in FACTS and _is_number(field.type)]
        order = {name: position for position, name in enumerate(COLUMNS)}
        return sorted(names, key=lambda name: (order.get(name, len(order)), name))

    def text_scores(self) -> list[str]:
        """Columns of text that scorers give, such as a label or a codec."""
        return [name for name in self._texts() if name in COLUMNS]

    def own_names(self) -> list[str]:
        """The user's own columns of text: all that are neither facts, numbers, nor given by a scorer."""
        return [name for name in self._texts() if name not in COLUMNS]

    def _texts(self) -> list[str]:
        fields = [field for field in self.clips.schema if field.name not in FACTS and not _is_number(field.type)]
        return [field.name for field in fields if not pa.types.is_nested(field.type) and not _is_bytes(field.type)]

    def texts(self, name: str) -> pa.ChunkedArray:
        """A column of text, or of what is shown as one, as strings."""
        return pc.cast(self.clips[name], pa.string())

    def bounds(self, score: str) -> tuple[float | None, float | None]:
        """The policy's `(min, max)` on a score; None where it does not bound."""
        rule = self.rules.get(score) or Rule()
        return rule.min, rule.max


def read_dataset(url: str, failures: Iterable[Mapping[str, Any]] = ()) -> DatasetView:
    """Read what the report shows.

    Args:
        url: the dataset directory.
        failures: rows of tables/failures that still stand: `subject, step, kind, detail, retryable, retry_command`.

    Raises:
        ValueError: there is no `clips.parquet`: nothing was curated into this directory.
    """
    dataset = Dataset(url)
    clips = read_clips(dataset)
    config = dataset.sections()
    index = read_parquet(dataset.layout.index)
    if index is None:
        index = INDEX.empty_table()
    sampled = np.arange(0, index.num_rows, max(1, -(-index.num_rows // MAX_REVIEWED)))
    videos = _videos(dataset, config)
    standing = [dict(row) for row in failures]
    known = {row["subject"] for row in standing}
    standing += [_failure_of(row) for row in videos if row["outcome"] != "ok" and row["uri"] not in known]
    readable = {row["uri"] for row in videos if row["outcome"] == "ok"}
    unread = {row["subject"] for row in standing if row["step"] == "scan"} - readable
    return DatasetView(
        url=dataset.url,
        config=config,
        num_files=len(readable | unread),
        num_failed_files=len(unread),
        num_forgotten=len(dataset.tombstones().uris),
        failures=list(_latest(standing)),
        clips=clips,
        index=index,
        encoded=_encoded(dataset, index),
        captions=dataset.current_records(index.take(sampled), ["findings", "provenance"]),
    )


def read_clips(dataset: Dataset) -> pa.Table:
    """
    Raises:
        ValueError: there is no `clips.parquet`.
    """
    clips = read_parquet(dataset.layout.clips)
    if clips is None:
        raise ValueError(
            f"{dataset.layout.clips} is not there: no dataset to report on. "
            f"`reelpack curate INPUT --out {dataset.url}` makes one"
        )
    return clips


def rules_given(made_with: Mapping[str, Any]) -> Mapping[str, Rule]:
    """Column → rule of a section `curate` of config.yaml, with relative bounds."""
    select = made_with.get("select", {})
    # An earlier reelpack saved the rules in the section itself.
    rules = select.get("rules", {name: rule for name, rule in select.items() if name in COLUMNS})
    return SelectConfig(rules=rules).rules


def _videos(dataset: Dataset, config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the input files under the scan settings that the dataset was last curated with."""
    found: list[dict[str, Any]] = []
    if "curate" in config:
        found = current_videos(dataset, ScanConfig.model_validate(config["curate"]["scan"])).to_pylist()
    # None where another version of reelpack scanned: its keys for the same settings are others.
    return found or dataset.videos.rows()


def _failure_of(video: Mapping[str, Any]) -> dict[str, Any]:
    row = {"subject": video["uri"], "step": "scan", "kind": video["failure"], "detail": video["detail"]}
    return {**row, "retryable": False, "retry_command": None}


def _latest(failures: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """One row per subject and step: the same failure under several settings is one."""
    return {(row["subject"], row["step"]): row for row in failures}.values()


def read_lines(url: str) -> list[dict[str, Any]]:
    """Rows of a JSONL file; none if it is not there. A last line that a kill cut off is left out."""
    fs, path = locate(url)
    if not fs.exists(path):
        return []
    rows = []
    for line in fs.cat_file(path).decode().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def _counts(values: pa.ChunkedArray) -> dict[str, int]:
    counted = pc.value_counts(values)
    return dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)


def _encoded(dataset: Dataset, cut: pa.Table) -> pa.Array:
    """Clips that have any latents of what they are now: several autoencoders may have encoded the same clips."""
    tables = [dataset.encoded_index("latents", name) for name in dataset.fingerprints("latents")]
    found = [of_current(table, cut)["clip_id"].combine_chunks() for table in tables if table is not None]
    return pa.concat_arrays([pa.array([], pa.string()), *found])
