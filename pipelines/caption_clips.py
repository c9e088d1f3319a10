"""Clips → caption records, and their texts in the index. The driver behind `reelpack caption DATASET`."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from caption.captioner import KINDS, CaptionItem, CaptionStage
from caption.record import CaptionRecord, record_row
from curate.schema import Failure
from curate.shards.current import SOURCE, of_current
from pipelines.config import Config
from pipelines.dataset import Dataset
from pipelines.execute import Needs, executor
from pipelines.progress import CLIPS, tracked
from pipelines.tables import failure_row


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionSummary:
    """The captions in the index (`num_captions`, of two per clip), and what this run did."""

    family: str
    num_clips: int
    num_new: int
    num_failed: int
    num_captions: int
    seconds: float


def caption(url: str, config: Config) -> CaptionSummary:
    """Caption the indexed clips that, as they are cut now, have no record yet by this captioner, prompt and frame
    sampling.

    Raises:
        ValueError: the dataset has no index, another command captions it, or the model cannot be loaded (with what
            is missing).
    """
    dataset = Dataset(url)
    dataset.read("shards/index.parquet")
    with dataset.writer("captions"):
        return _caption(dataset, config)


def _caption(dataset: Dataset, config: Config) -> CaptionSummary:
    start = time.monotonic()
    index = dataset.read("shards/index.parquet")
    captioner = config.caption.pinned()
    stage = CaptionStage(captioner, dataset.shards_url)
    family = f"{captioner.name}-{captioner.key}"
    table = dataset.captions(family)
    have = set(of_current(table.read([SOURCE]), index)["clip_id"].to_pylist())
    items = index.select([field.name for field in fields(CaptionItem)]).to_pylist()
    todo = [CaptionItem(**item) for item in items if item["clip_id"] not in have]
    failures: list[Failure] = []
    waiting: list[CaptionRecord] = []
    needs = Needs(batch_size=captioner.batch_size, num_gpus=config.execute.gpus_per_worker)
    last = time.monotonic()
    with executor(config.execute) as on:
        for _, outcome in tracked(on, stage, todo, needs, "caption", CLIPS):
            if isinstance(outcome, Failure):
                failures.append(outcome)
            else:
                waiting.extend(outcome)
            if time.monotonic() - last > config.execute.publish_every_s:
                dataset.check_writer()
                table.publish(_rows(waiting))
                waiting, last = [], time.monotonic()
        dataset.check_writer()
        table.publish(_rows(waiting))
    dataset.failures.publish(failure_row(failure, family, f"reelpack caption {dataset.url}") for failure in failures)
    dataset.save_section("caption_family", family)
    dataset.save_section("caption", captioner.model_dump(mode="json"))
    rows = dataset.write_index(dataset.config().shards.key).to_pylist()
    return CaptionSummary(
        family=family,
        num_clips=len(rows),
        num_new=len(todo) - len(failures),
        num_failed=len(failures),
        num_captions=sum(bool(row[f"caption_{kind}"]) for row in rows for kind in KINDS),
        seconds=time.monotonic() - start,
    )


def _rows(records: Sequence[CaptionRecord]) -> list[dict[str, Any]]:
    return [record_row(record) for record in records]
