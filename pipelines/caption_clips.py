"""Clips → caption records, and their texts in the index. The driver behind `reelpack caption DATASET`."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from caption.captioner import KINDS, CaptionItem, CaptionStage
from caption.record import CaptionRecord, record_row
from curate.schema import Failure
from pipelines.config import Config
from pipelines.dataset import Dataset
from pipelines.execute import Needs, executor
from pipelines.progress import track
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
    """Caption the indexed clips that have no record yet by this captioner, prompt and frame sampling.

    Raises:
        ValueError: the dataset has no index, or the model cannot be loaded (with what is missing).
    """
    start = time.monotonic()
    dataset = Dataset(url)
    index = dataset.read("shards/index.parquet").to_pylist()
    captioner = config.caption.pinned()
    stage = CaptionStage(captioner, dataset.shards_url)
    family = f"{captioner.name}-{captioner.key}"
    table = dataset.captions(family)
    have = {row["clip_id"] for row in table.rows()}
    todo = [
        CaptionItem(clip_id=r["clip_id"], shard=r["shard"], offset=r["offset"], size=r["size"], kind=r["kind"])
        for r in index
        if r["clip_id"] not in have
    ]
    failures: list[Failure] = []
    waiting: list[CaptionRecord] = []
    needs = Needs(batch_size=captioner.batch_size, num_gpus=config.execute.gpus_per_worker)
    last = time.monotonic()
    with executor(config.execute) as on:
        for _, outcome in track(on.run(stage, todo, needs), len(todo), "caption"):
            if isinstance(outcome, Failure):
                failures.append(outcome)
            else:
                waiting.extend(outcome)
            if time.monotonic() - last > config.execute.publish_every_s:
                table.publish(_rows(waiting))
                waiting, last = [], time.monotonic()
        table.publish(_rows(waiting))
    dataset.failures.publish(failure_row(failure, family, f"reelpack caption {dataset.url}") for failure in failures)
    dataset.save_section("caption_family", family)
    dataset.save_section("caption", captioner.model_dump(mode="json"))
    index = dataset.write_index(dataset.config().shards.key).to_pylist()
    return CaptionSummary(
        family=family,
        num_clips=len(index),
        num_new=len(todo) - len(failures),
        num_failed=len(failures),
        num_captions=sum(bool(row[f"caption_{kind}"]) for row in index for kind in KINDS),
        seconds=time.monotonic() - start,
    )


def _rows(records: Sequence[CaptionRecord]) -> list[dict[str, Any]]:
    return [record_row(record) for record in records]
