"""Samples while a run trains: the same held-out captions from the same noise each time, by the EMA weights. Where no
clip has a caption, held-out clips are sampled under the null caption. The user's own prompts are sampled with them.

    RUN/samples/step-000500/00.mp4  00.json  …  prompt-00.mp4  prompt-00.json  …

A caption is sampled at the size and length of its clip; its token states are those of the dataset, so no text
encoder is needed. Own prompts are embedded once (`own_prompts`). Decoded and written by the first rank.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.autoencoder.base import VideoAutoencoder
from train.autoencoder.config import autoencoder_of
from train.autoencoder.pixels import decode_latent
from train.data.read import ClipReader
from train.data.reference import noised, reference_prompts, reference_sample
from train.evaluate.base import AveragedWeights, Evaluation, EvaluationContext
from train.evaluate.config import SamplesConfig
from train.evaluate.own_prompts import own_prompts, own_samples
from train.packing.batch import Sample
from train.packing.patches import grid_size
from train.sampling.config import SampleConfig
from train.sampling.files import suffix_of, write_generated
from train.sampling.generate import generate, packs_to_generate
from train.sampling.provenance import Provenance

logger = logging.getLogger(__name__)

NUM_FRAMES, HEIGHT_PX = 4, 96
"""Frames per sample, and their height, in the images for TensorBoard."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggedSample:
    """A caption and what the model makes of it."""

    clip_id: str | None  # None: a prompt of the user's
    prompt: str
    latent: Tensor  # (C, T, H, W) float32
    fps: float


class SampleLogging:
    """Samples held-out captions on all ranks together; the first decodes and writes them.

    Raises:
        ValueError: the autoencoder of the latents, or what writes videos and images, is missing; own prompts that
            cannot be read or sampled.
    """

    def __init__(self, config: SamplesConfig, context: EvaluationContext) -> None:
        self.manifest, self.objective, self.config = context.val, context.objective, config
        self.model, self.ranks, self.folder = context.model, context.ranks, context.out / "samples"
        self.run = context.run
        captioned = np.flatnonzero(self.manifest.table["text_shard"].is_valid())
        rows = captioned if self.manifest.has_texts else np.arange(len(self.manifest))
        self.rows = rows[: config.num_samples].tolist()
        self.prompts = own_prompts(config)
        self.own = own_samples(self.prompts, config, context)
        counts = self.manifest.num_tokens[self.rows].tolist()
        counts += [math.prod(grid_size(sample.latent.shape, self.model.patch)) for sample in self.own]
        self.sampling = SampleConfig(num_steps=config.num_steps, guidance=config.guidance)
        self.packs = packs_to_generate(counts, self.sampling, context.plan)
        if self.ranks.is_main and not counts:
            logger.warning(
                "train.evaluate.samples.every=%d: no held-out clip has an embedded caption: nothing is sampled",
                config.every,
            )
        if self.ranks.is_main and counts:
            if missing := [name for name in ("av", "PIL") if find_spec(name) is None]:
                raise ValueError(
                    f"train.evaluate.samples.every={config.every}: samples are written with {missing[0]}, which is "
                    "not installed; pip install 'reelpack[sample]', or set it to 0"
                )
            self._autoencoder()

    def evaluate(self, model: nn.Module, average: AveragedWeights, step: int) -> Evaluation:
        with average.applied_to(model):
            drawn = self.draw(model)
        if not drawn or not self.ranks.is_main:
            return Evaluation()
        # Decoded as `reelpack sample` does, independent of the run's precision.
        with torch.autocast(self.ranks.device.type, enabled=False):
            return Evaluation(images=self.write(drawn, self.folder, step))

    def draw(self, model: nn.Module) -> list[LoggedSample]:
        """One latent per caption and own prompt, on the first rank; packs are distributed over the ranks."""
        reader, drawn = ClipReader(self.manifest, self.model.patch, self.ranks.device), dict[int, LoggedSample]()
        for turn in range(0, len(self.packs), self.ranks.world_size):
            is_mine = turn + self.ranks.rank < len(self.packs)
            numbers = self.packs[turn + self.ranks.rank if is_mine else turn]
            clean = [self._clean(reader, number) for number in numbers]
            samples = [noised(sample, 1.0, "preview", sample.clip_id) for sample in clean]
            latents = generate(
                model, samples, self.objective, self.sampling, self.model, self.manifest.text_dim, self.ranks.device
            )
            if is_mine:
                found = zip(numbers, samples, latents, strict=True)
                drawn |= {number: self._logged(number, sample, latent) for number, sample, latent in found}
        of_all = {number: one for part in self.ranks.all_gather_object(drawn) for number, one in part.items()}
        return [of_all[number] for number in sorted(of_all)]

    def write(self, drawn: Sequence[LoggedSample], folder: Path, step: int) -> dict[str, np.ndarray]:
        """Decode into `folder`/step-…; returns a picture of the samples, and one of own prompts: a row of frames per
        caption, (H, W, 3) uint8."""
        autoencoder = self._autoencoder()
        strips: dict[str, list[np.ndarray]] = {}
        for one in drawn:
            rgb = decode_latent(autoencoder, one.latent)
            kind, prefix = ("prompts", "prompt-") if one.clip_id is None else ("samples", "")
            number = len(strips.setdefault(kind, []))
            path = folder / f"step-{step:06d}" / f"{prefix}{number:02d}{suffix_of(len(rgb))}"
            provenance = Provenance(run=self.run, step=step, prompt=one.prompt, seed=None)
            settings = {"guidance": self.config.guidance, "num_steps": self.config.num_steps}
            write_generated(path, rgb, one.fps, provenance, {"clip_id": one.clip_id, "fps": one.fps, **settings})
            strips[kind].append(_strip(rgb))
        return {kind: _stacked(rows) for kind, rows in strips.items()}

    def _autoencoder(self) -> VideoAutoencoder:
        """Loaded when it is needed: between samples it takes no memory."""
        try:
            return autoencoder_of(self.manifest.latents, self.ranks.device)
        except (KeyError, OSError, ValueError) as error:
            raise ValueError(
                f"latents {self.manifest.latents['fingerprint']}: their autoencoder cannot be loaded here ({error}); "
                "samples need it: set train.evaluate.samples.every=0 to train without them"
            ) from error

    def _clean(self, reader: ClipReader, number: int) -> Sample:
        """Held-out clips are numbered first, then own prompts."""
        if number < len(self.rows):
            return reference_sample(reader, self.rows[number], self.model)
        return self.own[number - len(self.rows)]

    def _logged(self, number: int, sample: Sample, latent: Tensor) -> LoggedSample:
        if number >= len(self.rows):
            own = self.prompts[number - len(self.rows)]
            return LoggedSample(clip_id=None, prompt=own, latent=latent, fps=sample.fps)
        (prompt,) = reference_prompts(self.manifest, [self.rows[number]])
        return LoggedSample(clip_id=sample.clip_id, prompt=prompt, latent=latent, fps=sample.fps)


def _stacked(strips: Sequence[np.ndarray]) -> np.ndarray:
    """Below each other, (H, W, 3)."""
    width = max(strip.shape[1] for strip in strips)
    return np.concatenate([np.pad(strip, ((0, 0), (0, width - strip.shape[1]), (0, 0))) for strip in strips])


def _strip(rgb: np.ndarray) -> np.ndarray:
    """Frames of a video side by side, (T, H, W, 3) to (HEIGHT_PX, W', 3)."""
    chosen = np.linspace(0, len(rgb) - 1, min(len(rgb), NUM_FRAMES)).round().astype(int)
    frames = torch.from_numpy(rgb[chosen]).permute(0, 3, 1, 2).float()  # (t, 3, H, W)
    width = max(1, round(frames.shape[3] * HEIGHT_PX / frames.shape[2]))
    small = F.interpolate(frames, (HEIGHT_PX, width), mode="bilinear", antialias=True)
    return small.permute(2, 0, 3, 1).reshape(HEIGHT_PX, -1, 3).round().byte().numpy()
