"""From a planned row of the manifest to a sample: latent, noise, timestep, caption, conditions, generation task.

All draws are keyed by (seed, epoch, clip), that of the caption by (seed, epoch, row of the manifest): they do not
depend on the pack, the rank or the step of the sample.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from train.align.base import TokenFeatures
from train.data.config import DataConfig
from train.data.epoch import EpochSamples
from train.data.generator import keyed_generator
from train.data.plan import PlannedSample
from train.data.read import ClipLatent, ClipReader
from train.data.tasks.base import Shown, canvas_of, pick, show
from train.data.tasks.config import TaskConfig
from train.model.config import ModelConfig
from train.objective.base import Objective
from train.packing.batch import Sample
from train.packing.patches import draw_noise, fitting_size

OF_LENGTH = ("duration_s", "num_frames")
"""Scalar conditions that are proportional to the length of a clip."""

KEY = ("clip_id", "latent_t", "latent_h", "latent_w", "window", "copy")
"""Columns that the draws of a row depend on."""

CAPTION_STEPS = (0.8191725133961645, 0.6710436067037893, 0.5497004779019703)
"""Powers of 1 / 1.2207, the root of x⁴ = x + 1: multiples of these, modulo 1, fill the unit interval evenly, each
alone and together (the Kronecker sequence R₃ of Roberts 2018, "The Unreasonable Effectiveness of Quasirandom
Sequences")."""


class Draws(NamedTuple):
    """What is drawn for a sample before its noise.

    Attributes:
        timestep: In [0, 1].
        caption: In [0, 1): which of the clip's texts is taken (`BlendConfig.draw`); None: no caption.
        is_null: There is neither a caption nor a label.
        generator: What draws the rest.
    """

    timestep: float
    caption: float | None
    is_null: bool
    generator: torch.Generator


class SampleBuilder:
    """Builds training samples; the noise, timestep and caption of a sample differ from epoch to epoch."""

    def __init__(
        self,
        samples: EpochSamples,
        reader: ClipReader,
        objective: Objective,
        config: DataConfig,
        model: ModelConfig,
        seed: int,
        features: TokenFeatures | None = None,
    ) -> None:
        self.features = features
        self.manifest, self.samples, self.reader = samples.manifest, samples, reader
        self.objective, self.config, self.model, self.seed = objective, config, model, seed
        self.patch = model.patch

    def build(self, planned: PlannedSample, epoch: int) -> Sample:
        """The sample of a row of the manifest in `epoch`."""
        row = self.manifest.row(planned.row)
        timestep, caption, is_null, generator = self._draws(planned, row, epoch)
        shape = self._shape(planned, row)
        noise = draw_noise(shape, self.patch, generator)
        scalars = self._scalars(row, shape[1], generator)
        kept = self._kept(planned, generator)
        label = None if is_null else self._label(row, generator)
        shown = self._task(generator).draw(canvas_of(shape, self.patch), generator)
        pictures = () if shown is None else shown.frames
        gray = None if shown is None else shown.gray
        read = self.reader.read(row, self._posterior(planned, row, epoch), pictures, gray)
        sample = Sample(
            clip_id=row["clip_id"],
            latent=read.latent[:, : shape[1]],
            noise=noise,
            timestep=timestep,
            fps=sample_fps(row),
            temporal_stride=int(self.manifest.latents["temporal_stride"]),
            text=None if caption is None else self._text(row, caption),
            scalars=scalars,
            kept=kept,
            label=label,
            self_conditioned=self._self_conditioned(planned, row, epoch),
            features=None if self.features is None else self.features.of(planned.row, row, shape[1]),
        )
        if shown is not None:
            sample = show_read(sample, shown, read, self.model)
        return self._conditioned(sample, planned, row, epoch)

    def _conditioned(self, sample: Sample, planned: PlannedSample, row: dict[str, Any], epoch: int) -> Sample:
        """With the conditioning latents of the run, whose draws leave the other draws as they are."""
        key = self._key(planned, row, epoch)
        for one in self.manifest.conditioning:
            latent = self.reader.conditioning(row, one, keyed_generator("posterior", one.kind, *key))
            latent = latent[:, : sample.latent.shape[1]]
            sample = one.draw(sample, latent, keyed_generator("conditioning", one.kind, *key))
        return sample

    def draws(self, planned: PlannedSample, epoch: int) -> Draws:
        """What `build` draws for this sample before its noise; reads no tensor."""
        return self._draws(planned, self.manifest.row(planned.row, KEY), epoch)

    def _draws(self, planned: PlannedSample, row: dict[str, Any], epoch: int) -> Draws:
        generator = keyed_generator(*self._key(planned, row, epoch))
        drop, _ = torch.rand(2, generator=generator).tolist()
        caption = self._caption_position(planned, epoch)
        timestep = self.objective.draw_timestep(generator, self._num_grid_tokens(planned))
        is_null = self._is_null(generator)
        is_dropped = is_null or drop < self.config.caption_dropout
        return Draws(timestep, None if is_dropped else caption, is_null, generator)

    def _posterior(self, planned: PlannedSample, row: dict[str, Any], epoch: int) -> torch.Generator:
        """What draws the latent, where its posterior is stored; it leaves the other draws as they are."""
        return keyed_generator("posterior", *self._key(planned, row, epoch))

    def _self_conditioned(self, planned: PlannedSample, row: dict[str, Any], epoch: int) -> bool | None:
        """Whether the model is shown its own estimate; the other draws are as without."""
        share = self.model.self_conditioning
        if not share:
            return None
        return float(torch.rand((), generator=keyed_generator("estimate", *self._key(planned, row, epoch)))) < share

    def _key(self, planned: PlannedSample, row: dict[str, Any], epoch: int) -> tuple[object, ...]:
        grid = (row["latent_t"], row["latent_h"], row["latent_w"])
        again = (planned.occurrence, row["copy"]) if row["copy"] else (planned.occurrence,) * (planned.occurrence > 0)
        window = (f"window {row['window']}",) * (row["window"] > 0)
        return self.seed, epoch, row["clip_id"], grid, *again, *window

    def _caption_position(self, planned: PlannedSample, epoch: int) -> float:
        """In [0, 1), spread evenly over the rows of an epoch, over the epochs of a row, and over its occurrences, so
        that the shares of texts are those of the blend. Independent draws come within 1 % after 10,000 samples."""
        steps = (planned.row, epoch, planned.occurrence)
        start = float(torch.rand((), generator=keyed_generator(self.seed, "caption")))
        return (start + sum(step * count for step, count in zip(CAPTION_STEPS, steps, strict=True))) % 1.0

    def _text(self, row: dict[str, Any], u: float) -> Tensor | None:
        """Token states (n, D) of the text that is drawn; None where the clip has none."""
        texts = self.reader.captions(row)
        name = self.config.blend.draw(texts, u)
        return None if name is None else texts[name]

    def _task(self, generator: torch.Generator) -> TaskConfig:
        tasks = self.config.tasks
        return tasks[0] if len(tasks) == 1 else pick(tasks, float(torch.rand((), generator=generator)))

    def _is_null(self, generator: torch.Generator) -> bool:
        """Without caption and label: independent draws of both would rarely coincide."""
        if not self.model.reads_captions or self.model.num_classes is None:
            return False
        return float(torch.rand((), generator=generator)) < self.config.null_dropout

    def _label(self, row: dict[str, Any], generator: torch.Generator) -> int | None:
        label = sample_label(row)
        if label is None or float(torch.rand((), generator=generator)) < self.config.label_dropout:
            return None
        return label

    def _scalars(self, row: dict[str, Any], num_frames: int, generator: torch.Generator) -> dict[str, float]:
        """The clip's scalar conditions; each is dropped by a draw of its own. Those of length follow the crop."""
        names, dropout = self.model.conditions, self.config.condition_dropout
        draws = torch.rand(len(names), generator=generator).tolist()
        kept = [name for name, u in zip(names, draws, strict=True) if u >= dropout]
        scalars, stride = sample_scalars(row, kept), int(self.manifest.latents.get("temporal_stride", 1))
        left = (1 + (num_frames - 1) * stride) / (1 + (row["latent_t"] - 1) * stride)
        return {name: value * left if name in OF_LENGTH else value for name, value in scalars.items()}

    def _shape(self, planned: PlannedSample, row: dict[str, Any]) -> tuple[int, int, int, int]:
        """(C, T, H, W) that patches fill. Of a sample above the budget the plan keeps the first frames, as the first
        latent frame is encoded alone in every sample.
        """
        t, h, w = fitting_size((row["latent_t"], row["latent_h"], row["latent_w"]), self.patch)
        return self.manifest.channels, min(t, self._num_frames(planned) * self.patch[0]), h, w

    def _num_frames(self, planned: PlannedSample) -> int:
        """Patches along time that the plan keeps."""
        return int(self.samples.num_frames(np.array([planned.row]))[0])

    def _kept(self, planned: PlannedSample, generator: torch.Generator) -> Tensor | None:
        """Sorted indices of the tokens that are not dropped, drawn uniformly; None for all."""
        total = self._num_grid_tokens(planned)
        if planned.num_tokens == total:
            return None
        return torch.randperm(total, generator=generator)[: planned.num_tokens].sort().values

    def _num_grid_tokens(self, planned: PlannedSample) -> int:
        """Tokens of the sample's grid including dropped ones: dropping changes neither resolution nor timestep."""
        _, h, w = self.manifest.grids[planned.row].tolist()
        return self._num_frames(planned) * h * w


def show_read(sample: Sample, shown: Shown, read: ClipLatent, model: ModelConfig) -> Sample:
    """The sample with what is shown of its clip; a model that reads states of pictures is given them, too."""
    gray = None if read.gray is None else read.gray[:, : sample.latent.shape[1]]
    return replace(show(sample, shown, read.lone, gray), picture=None if model.pictures is None else read.picture)


def sample_scalars(row: dict[str, Any], names: Sequence[str]) -> dict[str, float]:
    """Numbers of a clip by name, those that it has; those of length are the part of them that a window has."""
    found = {name: float(row[name]) for name in names if row[name] is not None}
    return {name: value * row["part"] if name in OF_LENGTH else value for name, value in found.items()}


def sample_label(row: dict[str, Any]) -> int | None:
    """The number of the clip's class; None where it has none, or the run none."""
    return row.get("label")


def sample_fps(row: dict[str, Any]) -> float:
    """Frames per second of the clip as encoded; 0 for an image."""
    return 0.0 if row["kind"] == "image" or row["fps"] is None else float(row["fps"])
