"""Clips → caption records, and their texts in the index. The driver behind `reelpack caption DATASET`."""

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import pyarrow as pa

from caption.captioner import CaptionItem, CaptionStage
from caption.config import CaptionConfig
from caption.record import record_row
from curate.dataset.captions import USABLE, reason_of, texts_of
from curate.dataset.dataset import Dataset
from curate.dataset.rows import failure_row
from curate.dataset.sources import SOURCE, of_current
from curate.encoders.fingerprint import other_libraries
from curate.schema import Failure
from pipelines.config import Config
from pipelines.console.progress import CLIPS
from pipelines.dataset import config_of
from pipelines.execute.base import Resources
from pipelines.execute.build import open_executor
from pipelines.execute.work import Work, failures_of, finished, values_of


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionSummary:
    """The captions in the index (`num_captions`, of two per clip), and what this run did.

    Attributes:
        states: Captions of the indexed clips by how they ended, `CaptionStatus`.
        reasons: Why those without text have none, in order of their frequency.
        notes: What a reader must know of the captions, and of what made the earlier ones.
    """

    family: str
    num_clips: int
    num_new: int
    num_failed: int
    num_captions: int
    states: Mapping[str, int]
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    seconds: float


def caption(url: str, config: Config) -> CaptionSummary:
    """Caption the indexed clips that, as they are cut now, have no record yet by this captioner, prompt and frame
    sampling.

    Raises:
        ValueError: the dataset has no index, another command captions it, or the model cannot be loaded (with what
            is missing).
    """
    dataset = Dataset(url)
    dataset.read_index()
    with dataset.writer("captions"):
        return _caption(dataset, config)


def _caption(dataset: Dataset, config: Config) -> CaptionSummary:
    start = time.monotonic()
    index = dataset.read_index()
    captioner = config.caption.pinned()
    stage = CaptionStage(captioner, dataset.layout.shards)
    family = f"{captioner.name}-{captioner.key}"
    table = dataset.captions(family)
    earlier = of_current(table.read([SOURCE, "provenance"]), index)
    have = set(earlier["clip_id"].to_pylist())
    items = index.select([field.name for field in fields(CaptionItem)]).to_pylist()
    todo = [CaptionItem(**item) for item in items if item["clip_id"] not in have]
    failures: list[Failure] = []
    resources = Resources(batch_size=captioner.batch_size, num_gpus=config.execute.gpus_per_worker)
    work = Work(stage=stage, items=todo, resources=resources, name="caption", unit=CLIPS)
    with open_executor(config.execute) as executor:
        for results in finished(dataset, executor, work, config.execute.publish_every_s):
            failures += failures_of(results)
            table.publish(record_row(record) for records in values_of(results) for record in records)
    dataset.failures.publish(failure_row(failure, family, f"reelpack caption {dataset.url}") for failure in failures)
    dataset.save_section("caption_family", family)
    dataset.save_section("caption", captioner.model_dump(mode="json"))
    dataset.save_section("caption_note", captioner.backend.caveat)
    indexed = dataset.write_index(config_of(dataset).shards.key)
    records = of_current(table.read([SOURCE, "status", "findings"]), indexed).to_pylist()
    rows = indexed.to_pylist()
    return CaptionSummary(
        family=family,
        num_clips=len(rows),
        num_new=len(todo) - len(failures),
        num_failed=len(failures),
        num_captions=sum(len(texts_of(row)) for row in rows),
        states=Counter(record["status"] for record in records),
        reasons=tuple(_reasons(records)),
        notes=tuple(_notes(captioner, earlier, len(todo))),
        seconds=time.monotonic() - start,
    )


def _reasons(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """Reasons of the captions without text; numbers in them, which differ clip by clip, are left out."""
    reasons = (reason_of(record) for record in records if record["status"] not in USABLE)
    counted = Counter(reason.partition(" (")[0] for reason in reasons)
    return [f"{count} × {reason}" for reason, count in counted.most_common()]


def _notes(captioner: CaptionConfig, earlier: pa.Table, num_todo: int) -> Iterator[str]:
    if caveat := captioner.backend.caveat:
        yield f"the captions are by {caveat}"
    stored_libraries = {provenance["libraries"] for provenance in earlier["provenance"].to_pylist()}
    for stored in sorted(stored_libraries) if num_todo else ():
        if unlike := other_libraries(json.loads(stored), "earlier captions of this table"):
            yield unlike
