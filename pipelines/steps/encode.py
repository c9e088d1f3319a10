"""Step: clips that have no latents, or captions that have no embeddings → new tars, and the index of their folder.

The tars are planned before any work is done, so they do not depend on which worker was faster.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.dataset import HUMAN, Dataset
from curate.dataset.layout import SPLITS, Encoded, next_numbers, shard_name
from curate.dataset.sources import SOURCE, of_current
from curate.dataset.store import write_parquet
from curate.schema import Failure
from curate.shards.tar import PLACE, sample_key, write_tar
from curate.stage import Stage
from curate.storage.publish import publish, write_text
from curate.storage.tensors import arrays_to_bytes
from pipelines.console.progress import FRAMES, Unit
from pipelines.execute.base import ExecuteConfig, Executor, Resources, batches
from pipelines.execute.work import Work, finished

CLIPS_PER_SHARD = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoding:
    """How one folder of latents or of text embeddings is filled.

    Attributes:
        kind: What it holds.
        record: Its fingerprint.json; names the folder by `fingerprint`.
        stage: Gives an outcome for an item.
        items: Clip id → item, of the clips that there is work for.
        sources: Clip id → digest of what the item is made of, or of nothing; None where the digest is unknown.
        tensors: A result's arrays by name; None: nothing is stored but rows of the index.
        facts: Columns of a result's row, without those of its location.
        results: What an outcome of the stage holds: one result, or one for each window of a clip.
        codebook: What lies beside the tars of latents that are stored as ids.
        fallbacks: Why PyAV read clips instead of the chosen reader, with their number; counted by `facts`.
        batch_size: Items that a worker takes at a time.
        name, unit: Of the progress line.
    """

    kind: Encoded
    record: Mapping[str, Any]
    stage: Stage[Any, Any]
    items: Mapping[str, Any]
    sources: Mapping[str, str | None]
    tensors: Callable[[Any], Mapping[str, np.ndarray]] | None
    facts: Callable[[Any], dict[str, Any]]
    results: Callable[[Any], Sequence[Any]]
    batch_size: int
    name: str
    unit: Unit
    codebook: bytes | None = None
    fallbacks: Counter[str] = field(default_factory=Counter)

    @property
    def fingerprint(self) -> str:
        return str(self.record["fingerprint"])

    @property
    def source_table(self) -> pa.Table:
        """`clip_id` and `digest` of `sources`."""
        return pa.table({"clip_id": list(self.sources), "digest": pa.array(self.sources.values(), pa.string())})


def text_families(dataset: Dataset) -> list[str]:
    """Whose texts are embedded: they name the folder of the embeddings. The review changes a few texts; those are
    embedded again, and the folder stays."""
    return [family for family in dataset.current_captions if family != HUMAN]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Tar:
    """A tar to be written when all its clips have their outcome."""

    name: str
    split: str
    clip_ids: tuple[str, ...]


def encode_missing(
    dataset: Dataset, executor: Executor, encoding: Encoding, index: Sequence[Mapping[str, Any]], config: ExecuteConfig
) -> list[Failure]:
    """Encode the items that have no row yet, or one of another source; write each tar when its last item is there.

    Args:
        dataset: has the folder.
        executor: what runs the stage.
        encoding: what is made, and how.
        index: rows of the dataset's index.
        config: what a worker takes.
    """
    folder = dataset.layout.encoded(encoding.kind, encoding.fingerprint)
    write_text(folder.record, json.dumps(encoding.record, indent=1))
    if encoding.codebook is not None:
        with publish(folder.codebook) as file:
            file.write(encoding.codebook)
    table = dataset.encoded(encoding.kind, encoding.fingerprint)
    missing = missing_rows(dataset, encoding, index)
    stored = table.read(["shard"])
    tars = list(_plan(missing, next_numbers(name for name in stored["shard"].to_pylist() if name)))
    num_frames = {row["clip_id"]: row["num_frames"] for row in missing}
    work = Work(
        stage=encoding.stage,
        items=[encoding.items[clip_id] for tar in tars for clip_id in tar.clip_ids],
        resources=Resources(batch_size=encoding.batch_size, num_gpus=config.gpus_per_worker),
        name=encoding.name,
        unit=encoding.unit,
        amount=lambda item: num_frames[item.clip_id] if encoding.unit is FRAMES else 1,
    )
    tar_of = {clip_id: tar for tar in tars for clip_id in tar.clip_ids}
    waiting: dict[str, dict[str, Any]] = {tar.name: {} for tar in tars}
    failures: list[Failure] = []
    for results in finished(dataset, executor, work, every_s=0):
        for item, outcome in results:
            tar = tar_of[item.clip_id]
            waiting[tar.name][item.clip_id] = outcome
            if len(waiting[tar.name]) == len(tar.clip_ids):
                outcomes = waiting.pop(tar.name)
                failures += [outcome for outcome in outcomes.values() if isinstance(outcome, Failure)]
                values = {name: outcomes[name] for name in tar.clip_ids if not isinstance(outcomes[name], Failure)}
                if values:
                    table.publish(_write(encoding, tar, values, folder.url))
    write_parquet(folder.index, _without_stale(table.read(), encoding.source_table))
    return failures


def missing_rows(dataset: Dataset, encoding: Encoding, index: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows of the index whose clips have an item and no result of what it is made of now."""
    stored = dataset.encoded(encoding.kind, encoding.fingerprint).read([SOURCE])
    if "window" in stored.column_names:  # those of a clip are published together; of an earlier cut it had others
        stored = stored.filter(pc.equal(stored["window"], 0))
    done = set(of_current(stored, encoding.source_table)["clip_id"].to_pylist())
    return [row for row in index if row["clip_id"] in encoding.items and row["clip_id"] not in done]


def _plan(rows: Sequence[Mapping[str, Any]], first: Mapping[str, int]) -> Iterator[_Tar]:
    for split in SPLITS:
        clip_ids = sorted(row["clip_id"] for row in rows if row["split"] == split)
        for number, members in enumerate(batches(clip_ids, CLIPS_PER_SHARD), first[split]):
            yield _Tar(name=shard_name(split, number), split=split, clip_ids=tuple(members))


def _write(encoding: Encoding, tar: _Tar, values: Mapping[str, Any], folder: str) -> list[dict[str, Any]]:
    """Write a tar, where tensors are stored; the rows of its clips."""
    rows: dict[str, dict[str, Any]] = {}
    results: dict[str, Any] = {}
    for clip_id, outcome in values.items():
        place = {"clip_id": clip_id, "split": tar.split, SOURCE: encoding.sources[clip_id]}
        for result in encoding.results(outcome):
            row = {**place, **encoding.facts(result)}
            rows[sample_key(row)], results[sample_key(row)] = row, result
    if (tensors := encoding.tensors) is not None:
        samples = ((key, {"safetensors": arrays_to_bytes(tensors(result))}) for key, result in results.items())
        for member in write_tar(f"{folder}/{tar.name}", samples):
            rows[member.key] |= {column: getattr(member, column) for column in PLACE}
    return list(rows.values())


def _without_stale(rows: pa.Table, sources: pa.Table) -> pa.Table:
    """The rows without those of clips that have another source now, and could not be encoded again or had more
    windows before."""
    numbers = pa.array(np.arange(rows.num_rows))
    current = of_current(rows.select(["clip_id", SOURCE]).append_column("number", numbers), sources)["number"]
    is_known = pc.is_in(rows["clip_id"], sources["clip_id"])
    return rows.filter(pc.or_(pc.is_in(numbers, current), pc.invert(is_known)))
