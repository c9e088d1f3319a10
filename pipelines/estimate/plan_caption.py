"""Cost of captioning a dataset, estimated by captioning a few of its clips.

The driver behind `reelpack plan DATASET --step caption`. The probe is the step itself on clips that a seed draws; its
records are stored, and the run that follows does not ask for them again.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from caption.captioner import CaptionStage
from caption.item import Captioned, CaptionItem
from caption.record import record_row
from curate.dataset.captions import USABLE
from curate.dataset.dataset import Dataset
from curate.schema import Failure
from pipelines.config import Config
from pipelines.console.progress import CLIPS, track
from pipelines.estimate.bootstrap import SEED, Estimate, drawn, estimated, num_workers_of
from pipelines.execute.base import batches
from pipelines.steps.caption_items import by_clip, items_of, stored_records, wanted_levels


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """What is paid: per hour of all workers together, and per million tokens. None: not known."""

    per_hour: float | None = None
    per_million_prompt_tokens: float | None = None
    per_million_output_tokens: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionPlan:
    """The clips that are left after the probe, and their predicted cost.

    Attributes:
        family: Names the captioner's table.
        num_clips: Clips without all their captions, those of the probe included.
        num_probed: Clips that the probe captioned.
        num_failed: Of them, those of which a level has no caption.
        num_left: Clips that are left to caption, to which all estimates refer.
        num_workers: Workers that this machine has for the step.
        total_s: Seconds with all workers.
        prompt_tokens, output_tokens: In the model's tokens, further attempts included.
        price: In the currency of the rates; None without rates.
        rejected, retried: Shares of the captions that are not used, and that take more than one attempt.
        unknown: What the prediction does not hold, in sentences.
    """

    family: str
    num_clips: int
    num_probed: int
    num_failed: int
    num_left: int
    num_workers: int
    total_s: Estimate
    prompt_tokens: Estimate
    output_tokens: Estimate
    price: Estimate | None
    rejected: Estimate
    retried: Estimate
    unknown: tuple[str, ...]


def plan(url: str, config: Config, *, num_sampled: int = 20, rates: Rates = Rates()) -> CaptionPlan:
    """Predict a run of `caption`.

    Args:
        url: the dataset directory.
        config: as `caption` will get it.
        num_sampled: clips that the probe captions; more of them narrow the error bars.
        rates: for the price.

    Raises:
        ValueError: no dataset, no model (`caption.backend: null`), no clip to caption, none of the probe's clips got a
            caption, or the model cannot be loaded.
    """
    dataset, settings = Dataset(url), config.caption.pinned().read_by(config.media)
    if settings.family is None:
        raise ValueError("caption.backend=null: no model is asked, and captions cost nothing; expected a model")
    index = dataset.read_index()
    stored = by_clip(stored_records(dataset, settings.family, index).to_pylist())
    items = items_of(dataset, index, wanted_levels(settings, index, stored, again={}), stored)
    if not items:
        raise ValueError(f"{url}: every clip has its captions by {settings.family}; nothing is left to plan")
    stage = CaptionStage(settings, dataset.layout.shards)
    stage.setup()
    chosen = random.Random(SEED).sample(items, min(num_sampled, len(items)))
    with dataset.shared_writer("captions"):
        units = _probe(stage, chosen)
        dataset.check_writer()
        captioned = [one for unit in units for one in unit if isinstance(one, Captioned)]
        table = dataset.captions(settings.family)
        table.publish(record_row(record) for one in captioned for record in one.records)
    if not any(one.records for one in captioned):
        failed = next(one for unit in units for one in unit if isinstance(one, Failure) or one.failures)
        reason = failed if isinstance(failed, Failure) else failed.failures[0]
        raise ValueError(f"none of {len(chosen)} clips got a caption; the first: {reason.kind}: {reason.detail}")
    return CaptionPlan(
        family=settings.family,
        num_clips=len(items),
        num_probed=len(chosen),
        num_failed=sum(isinstance(one, Failure) or bool(one.failures) for unit in units for one in unit),
        num_left=len(items) - len(chosen),
        num_workers=num_workers_of(config.execute),
        **predicted(
            units,
            num_left=len(items) - len(chosen),
            num_workers=num_workers_of(config.execute),
            num_in_flight=stage.num_in_flight,
            rates=rates,
        ),
        unknown=(
            "loading the model, and captions that repeat each other and are attempted again",
            "workers that slow one another down, and limits of a server's rate",
        ),
    )


Unit = Sequence[Captioned | Failure]
"""Clips whose seconds count together: a batch, or one clip that is asked about in a thread of its own."""


def _probe(stage: CaptionStage, items: Sequence[CaptionItem]) -> list[Unit]:
    """The outcomes. There are two batches at least: their difference is the spread."""
    size = min(stage.batch_size, -(-len(items) // 2))
    portions = list(batches(items, size))
    units: list[Unit] = []
    for portion in track(portions, len(items), "probe", unit=CLIPS, total=len(items), amount=len):
        outcomes = stage.process(portion)
        units += [[one] for one in outcomes] if stage.num_in_flight else [outcomes]
    return units


def predicted(
    units: Sequence[Unit], *, num_left: int, num_workers: int, num_in_flight: int, rates: Rates
) -> dict[str, Any]:
    """Estimates for `num_left` clips, by attribute of `CaptionPlan`: means over the probe and over resamples of it.

    A worker with requests in flight decodes beside them. One that asks in batches can wait for frames.
    """
    rows = drawn(np.random.default_rng(SEED), len(units))
    clips = np.array([len(unit) for unit in units])[rows].sum(1)
    captioned = [[one for one in unit if isinstance(one, Captioned)] for unit in units]

    def of_units(*amounts: float) -> np.ndarray:
        return np.array(amounts, float)[rows].sum(1)

    spent = [sum(one.asked_s + (0 if num_in_flight else one.waited_s) for one in unit) for unit in captioned]
    seconds = of_units(*spent) / (num_workers * max(1, num_in_flight))
    prompts = of_units(*(sum(one.num_prompt_tokens for one in unit) for unit in captioned))
    outputs = of_units(*(sum(one.num_output_tokens for one in unit) for unit in captioned))
    records = [[record for one in unit for record in one.records] for unit in captioned]
    written = np.maximum(1, of_units(*map(len, records)))
    rejected = of_units(*(sum(one.status not in USABLE for one in found) for found in records)) / written
    retried = of_units(*(sum(one.attempt > 1 for one in found) for found in records)) / written
    total_s, prompts, outputs = (amount / clips * num_left for amount in (seconds, prompts, outputs))
    return {
        "total_s": estimated(total_s),
        "prompt_tokens": estimated(prompts),
        "output_tokens": estimated(outputs),
        "price": _price(total_s, prompts, outputs, rates),
        "rejected": estimated(rejected),
        "retried": estimated(retried),
    }


def _price(total_s: np.ndarray, prompts: np.ndarray, outputs: np.ndarray, rates: Rates) -> Estimate | None:
    priced = (
        (total_s / 3600, rates.per_hour),
        (prompts / 1e6, rates.per_million_prompt_tokens),
        (outputs / 1e6, rates.per_million_output_tokens),
    )
    known = [amount * rate for amount, rate in priced if rate is not None]
    return estimated(np.sum(known, axis=0)) if known else None
