"""Cost of encoding a dataset, estimated by encoding a few of its clips.

The driver behind `reelpack plan DATASET --step encode`. The probe runs the two stages of the step, latents and text
embeddings, on clips that a seed draws. What it computes is not stored. Totals are ratio estimates: seconds and bytes
of latents grow with the pixels that enter the autoencoder, those of texts with their number.
"""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from curate.dataset.dataset import Dataset
from curate.schema import Failure
from curate.storage.tensors import arrays_to_bytes
from pipelines.config import Config
from pipelines.console.progress import CLIPS, track
from pipelines.drivers.encode import encodings
from pipelines.estimate.bootstrap import NUM_RESAMPLES, SEED, Estimate, drawn, estimated, num_workers_of
from pipelines.execute.base import batches
from pipelines.steps.encode import Encoding, missing_rows
from train.autoencoder.config import EncodeConfig
from train.autoencoder.sizes import target_size


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodePlan:
    """The clips that are not encoded, and their predicted cost.

    Attributes:
        num_clips: Clips without latents.
        num_texts: Clips with captions whose embeddings are missing.
        num_probed: Clips that the probe encoded; `num_failed` of them failed.
        num_workers: Workers that this machine has for the step.
        total_s: Seconds with all workers.
        latent_bytes, text_bytes: Of the tars.
        num_tokens: Of the latents, as the index counts them.
        unknown: What the prediction does not hold, in sentences.
    """

    num_clips: int
    num_texts: int
    num_probed: int
    num_failed: int
    num_workers: int
    total_s: Estimate
    latent_bytes: Estimate
    text_bytes: Estimate
    num_tokens: Estimate
    unknown: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Unit:
    """Items that were encoded together: their size, and what they took and gave."""

    size: float
    seconds: float
    num_bytes: int
    num_tokens: int
    num_failed: int


def plan(url: str, config: Config, *, num_sampled: int = 20) -> EncodePlan:
    """Predict a run of `encode`.

    Args:
        url: the dataset directory.
        config: as `encode` will get it.
        num_sampled: clips that the probe encodes; more of them narrow the error bars.

    Raises:
        ValueError: no dataset, a model that cannot be loaded, nothing to encode, or none of the probe's clips could be
            encoded.
    """
    dataset = Dataset(url)
    index = dataset.read_index()
    rows = index.to_pylist()
    pixels = {row["clip_id"]: _num_pixels(row, config.encode) for row in rows}
    found: dict[str, tuple[list[_Unit], float, int]] = {}
    for encoding in encodings(dataset, index, config):
        missing = [row["clip_id"] for row in missing_rows(dataset, encoding, rows)]
        if missing:
            size = pixels.__getitem__ if encoding.kind == "latents" else lambda _: 1.0
            found[encoding.kind] = (
                _probe(encoding, missing, size, num_sampled),
                sum(map(size, missing)),
                len(missing),
            )
    if not found:
        raise ValueError(f"{url}: every clip is encoded with these settings; nothing is left to plan")
    seconds, num_bytes, tokens = (
        {kind: _total(units, whole, amount) for kind, (units, whole, _) in found.items()}
        for amount in (lambda unit: unit.seconds, lambda unit: unit.num_bytes, lambda unit: unit.num_tokens)
    )
    num_workers = num_workers_of(config.execute)
    nothing = np.zeros(1 + NUM_RESAMPLES)
    clips, texts = (found.get(kind, ([], 0.0, 0)) for kind in ("latents", "text"))
    return EncodePlan(
        num_clips=clips[2],
        num_texts=texts[2],
        num_probed=min(num_sampled, clips[2]),
        num_failed=sum(unit.num_failed for unit in clips[0]),
        num_workers=num_workers,
        total_s=estimated(np.sum(list(seconds.values()), axis=0) / num_workers),
        latent_bytes=estimated(num_bytes.get("latents", nothing)),
        text_bytes=estimated(num_bytes.get("text", nothing)),
        num_tokens=estimated(tokens.get("latents", nothing)),
        unknown=("loading the models", "workers that slow one another down, on one disk or in one memory"),
    )


def _num_pixels(row: Mapping[str, Any], config: EncodeConfig) -> float:
    """What of a clip about enters the autoencoder."""
    height, width = target_size(
        row["height"], row["width"], max_area_px=config.max_area_px, multiple_px=config.multiple_px
    )
    num_frames = row["num_frames"]
    if config.fps is not None and row["fps"]:
        num_frames = max(1, round(num_frames * config.fps / row["fps"]))
    if config.windows == "middle":
        num_frames = min(num_frames, config.max_frames)
    return float(num_frames * height * width)


def _probe(encoding: Encoding, missing: list[str], size: Callable[[str], float], num_sampled: int) -> list[_Unit]:
    """There are two units at least where there are two items: their difference is the spread."""
    stage = encoding.stage
    stage.setup()
    chosen = random.Random(SEED).sample(missing, min(num_sampled, len(missing)))
    portions = list(batches(chosen, min(encoding.batch_size, -(-len(chosen) // 2))))
    stage.process([encoding.items[name] for name in portions[0]])  # the first call compiles and allocates
    units = []
    for portion in track(portions, len(chosen), encoding.name, unit=CLIPS, total=len(chosen), amount=len):
        start = time.perf_counter()
        outcomes = stage.process([encoding.items[name] for name in portion])
        seconds = time.perf_counter() - start
        results = [result for one in outcomes if not isinstance(one, Failure) for result in encoding.results(one)]
        facts: list[Mapping[str, Any]] = [encoding.facts(one) for one in results]
        units.append(
            _Unit(
                size=sum(map(size, portion)),
                seconds=seconds,
                num_bytes=sum(len(arrays_to_bytes(encoding.tensors(one))) for one in results)
                if encoding.tensors
                else 0,
                num_tokens=sum(one["num_tokens"] for one in facts) if encoding.kind == "latents" else 0,
                num_failed=sum(isinstance(one, Failure) for one in outcomes),
            )
        )
        failure = next((one for one in outcomes if isinstance(one, Failure)), None)
    if failure is not None and sum(unit.num_failed for unit in units) == len(chosen):
        raise ValueError(f"none of {len(chosen)} clips could be encoded; the last: {failure.kind}: {failure.detail}")
    return units


def _total(units: list[_Unit], whole: float, amount: Callable[[_Unit], float]) -> np.ndarray:
    """(1 + NUM_RESAMPLES,) an amount of the probe, scaled to items of the size `whole`."""
    rows = drawn(np.random.default_rng(SEED), len(units))
    amounts, sizes = np.array([[amount(unit), unit.size] for unit in units], float).T
    total: np.ndarray = amounts[rows].sum(1) / sizes[rows].sum(1) * whole
    return total
