"""The dataset directory: where each table lies, and the two files that are derived from them.

`clips.parquet` and `shards/index.parquet` are pure functions of the tables and the configuration: they are rewritten
at will and come out byte for byte the same when nothing changed.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from fsspec.core import url_to_fs

from caption.record import CAPTION_SCHEMA
from curate.cut import ShardConfig
from curate.select import SelectConfig, decide
from curate.store import Table, write_parquet, write_text
from pipelines.tables import (
    CLIPS,
    DECISION_INPUT,
    FAILURES,
    INDEX,
    PUBLIC_COLUMNS,
    SHARDS,
    VIDEOS,
    decision_row,
)


class Dataset:
    """One dataset directory, local or remote."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.videos = Table(f"{self.url}/tables/videos", VIDEOS, ["uri", "scan_key"])
        self.clips = Table(f"{self.url}/tables/clips", CLIPS, ["clip_id", "scan_key"])
        self.shards = Table(f"{self.url}/tables/shards", SHARDS, ["clip_id", "cut_key"])
        self.failures = Table(f"{self.url}/tables/failures", FAILURES, ["subject", "step", "key"])
        self.shards_url = f"{self.url}/shards"
        self._fs, self._path = url_to_fs(self.url)

    def scores(self, family: str, columns: Iterable[str]) -> Table:
        """Scores of one scorer with one set of parameters and weights: `family` is `<name>-<hash>`."""
        schema = pa.schema([("clip_id", pa.string()), *((name, pa.float64()) for name in columns)])
        return Table(f"{self.url}/tables/scores/{family}", schema, ["clip_id"])

    def captions(self, family: str) -> Table:
        """Caption records of one captioner with one prompt set: `family` is `<name>-<hash>`."""
        return Table(f"{self.url}/tables/captions/{family}", CAPTION_SCHEMA, ["clip_id", "kind"])

    def make(self) -> None:
        """Make the folder, before any work.

        Raises:
            ValueError: it cannot be made there.
        """
        try:
            self._fs.makedirs(self._path, exist_ok=True)
        except OSError as error:
            raise ValueError(f"--out {self.url}: cannot make this folder ({error}); choose another place") from error

    def save_section(self, name: str, value: Any) -> None:
        """Record in config.yaml what one step ran with; the other steps' sections stay."""
        write_text(f"{self.url}/config.yaml", yaml.safe_dump({**self.sections(), name: value}, sort_keys=True))

    def sections(self) -> dict[str, Any]:
        fs, path = url_to_fs(f"{self.url}/config.yaml")
        return yaml.safe_load(fs.cat_file(path)) if fs.exists(path) else {}

    def cut_key(self) -> str:
        """Key of the cut settings that the last `curate` ran with."""
        section = self.sections().get("curate")
        if section is None:
            raise ValueError(
                f"{self.url}/config.yaml has no section `curate`; run `reelpack curate` on this dataset again"
            )
        return ShardConfig.model_validate(section["shards"]).key

    def read(self, name: str) -> pa.Table:
        """A derived file, `clips.parquet` or `shards/index.parquet`.

        Raises:
            ValueError: it is not there; names the command that makes it.
        """
        fs, path = url_to_fs(f"{self.url}/{name}")
        if not fs.exists(path):
            raise ValueError(f"{self.url}/{name} is not there; `reelpack curate INPUT --out {self.url}` makes it")
        return pq.read_table(path, filesystem=fs)

    def failed(self, keys: Collection[str]) -> set[str]:
        """Ids on which a step with one of these keys failed in a way that the same bytes would again."""
        return {row["subject"] for row in self.failures.rows() if row["key"] in keys and not row["retryable"]}

    def decide(
        self, scan_key: str, scores: Iterable[Table], failed: Collection[str], config: SelectConfig
    ) -> pa.Table:
        """Apply the policy to what is stored and publish `clips.parquet`: every clip of every readable input."""
        uris: dict[str, str] = {}
        for row in self.videos.rows():
            if row["scan_key"] == scan_key and row["outcome"] == "ok":
                uris.setdefault(row["video_id"], row["uri"])  # rows come sorted by URI: the first of equal copies
        rows = [row for row in self.clips.rows() if row["scan_key"] == scan_key and row["video_id"] in uris]
        rows.sort(key=lambda row: (uris[row["video_id"]], row["start_pts"]))
        table = pa.Table.from_pylist([decision_row(row, uris[row["video_id"]]) for row in rows], DECISION_INPUT)
        for scored in scores:
            table = _join(table, scored.read())
        decided = decide(table, failed, config)
        front = [name for name in PUBLIC_COLUMNS if name in decided.column_names]
        decided = decided.select(front + [name for name in decided.column_names if name not in front])
        write_parquet(f"{self.url}/clips.parquet", decided)
        return decided

    def write_index(self, cut_key: str) -> pa.Table:
        """Publish `shards/index.parquet`: the kept clips that are cut, with the captions of the current captioner."""
        kept = {row["clip_id"]: row for row in self.read("clips.parquet").to_pylist() if row["decision"] == "keep"}
        family = self.sections().get("caption_family")
        captions = {(r["clip_id"], r["kind"]): r for r in self.captions(family).rows()} if family else {}
        rows = []
        for row in self.shards.rows():
            if row["cut_key"] != cut_key or row["clip_id"] not in kept:
                continue
            clip = kept[row["clip_id"]]
            texts = {f"caption_{kind}": _text(captions.get((row["clip_id"], kind))) for kind in ("short", "dense")}
            rows.append({**row, "video_id": clip["video_id"], "kind": clip["kind"], "split": clip["split"], **texts})
        index = pa.Table.from_pylist(rows, INDEX)
        write_parquet(f"{self.shards_url}/index.parquet", index)
        return index


def _join(table: pa.Table, scored: pa.Table) -> pa.Table:
    """Add the score columns to `table` by `clip_id`, null where a clip has none; the order of rows stays."""
    where = {clip_id: row for row, clip_id in enumerate(scored["clip_id"].to_pylist())}
    rows = pa.array([where.get(clip_id) for clip_id in table["clip_id"].to_pylist()], pa.int64())
    for name in scored.column_names:
        if name != "clip_id":
            table = table.append_column(name, scored[name].take(rows))
    return table


def _text(record: Mapping[str, Any] | None) -> str | None:
    return record["text"] if record and record["status"] in ("ok", "truncated") else None
