"""From a planned pack to tensors: every read is a byte range, every draw is the sample's own.

Noise, timestep, caption and caption dropout are keyed by (seed, epoch, clip): they do not depend on the pack, the rank
or the step in which a sample is met.
"""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from fsspec.implementations.local import LocalFileSystem
from torch import Tensor

from curate.dataset.captions import KINDS
from curate.storage.place import locate
from train.data.config import DataConfig
from train.data.epoch import EpochSamples
from train.data.manifest import Manifest
from train.data.plan import Cursor, PlannedPack, PlannedSample, Planner
from train.data.read import ClipReader
from train.model.config import DiTConfig
from train.model.patterns import prepare
from train.objective.base import Objective
from train.packing.batch import PackedBatch, Sample, pack
from train.packing.patches import Patch, draw_noise, grid_size

OF_LENGTH = ("duration_s", "num_frames")
"""Conditions that are shorter of a clip that is cut."""


def keyed_generator(*key: object) -> torch.Generator:
    """A generator whose stream is a function of the key alone, on any machine."""
    digest = hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedStep:
    """One optimizer step: the packs of this rank, and the size of the whole step over all ranks.

    Attributes:
        mean_samples: Of the steps of the run, one constant, as `mean_tokens`: what gradients are divided by.
    """

    epoch: int
    num_samples: int
    num_tokens: int
    mean_samples: float
    mean_tokens: float
    batches: tuple[PackedBatch, ...]
    next: Cursor


NUM_READERS = 16
"""Samples of a pack that are read at the same time: from an object store each of them is a request that waits."""
NUM_LOCAL_READERS = 2
"""Of latents in files of this machine, which wait for nothing: more threads cost more than they save."""


def num_readers(manifest: Manifest) -> int:
    is_local = all(isinstance(locate(part.url)[0], LocalFileSystem) for part in manifest.parts)
    return NUM_LOCAL_READERS if is_local and not any(manifest.table["encode"].unique().to_pylist()) else NUM_READERS


class PackLoader:
    """Materialises planned packs."""

    def __init__(
        self,
        manifest: Manifest,
        objective: Objective,
        config: DataConfig,
        *,
        model: DiTConfig,
        seed: int,
        pin: bool = False,
        device: torch.device | None = None,
    ) -> None:
        self.manifest = manifest
        self.samples = EpochSamples(manifest, config.epoch, config.plan, seed)
        # A block takes 24 n d² for its layers and 4 n² d for attention.
        self.planner = Planner(self.samples, seed, config.plan, pair_cost=1 / (6 * model.width))
        self.model = model
        self.reader = ClipReader(manifest, model.patch, device)
        self.reader.prepare()
        self.objective = objective
        self.config = config
        self.patch = model.patch
        self.seed = seed
        self._pool = ThreadPoolExecutor(num_readers(manifest), thread_name_prefix="reader")
        self.pin = pin  # what is loaded lies in pinned memory, from which a GPU copies while it computes

    def steps(self, start: Cursor, rank: int, world_size: int) -> Iterator[LoadedStep]:
        """The endless sequence of steps from `start` on, with the packs of one rank."""
        mean_samples, mean_tokens = self.planner.mean_step
        if rank == 0:
            self.planner.warn_of_idle(world_size)
        for planned in self.planner.steps(start):
            yield LoadedStep(
                epoch=planned.packs[0].epoch,
                num_samples=planned.num_samples,
                num_tokens=planned.num_tokens,
                mean_samples=mean_samples,
                mean_tokens=mean_tokens,
                batches=tuple(self.load(planned_pack) for planned_pack in planned.packs[rank::world_size]),
                next=planned.next,
            )

    def load(self, planned: PlannedPack) -> PackedBatch:
        samples = list(self._pool.map(lambda one: self.sample(one, planned.epoch), planned.samples))
        batch = prepare(pack(samples, self.patch, self.manifest.text_dim, self.model.conditions), self.model)
        return batch.pin_memory() if self.pin else batch

    def sample(self, planned: PlannedSample, epoch: int) -> Sample:
        """A row of the manifest as it is trained on in `epoch`."""
        row = self.manifest.row(planned.row)
        grid = (row["latent_t"], row["latent_h"], row["latent_w"])
        again = (planned.occurrence, row["copy"]) if row["copy"] else (planned.occurrence,) * (planned.occurrence > 0)
        generator = keyed_generator(self.seed, epoch, row["clip_id"], grid, *again)
        drop, kind = torch.rand(2, generator=generator).tolist()
        timestep = self.objective.draw_timestep(generator, self._num_grid_tokens(planned))
        latent = self._cut(self.reader.latent(row), planned)
        is_null = self._is_null(generator)
        captions = {} if is_null or drop < self.config.caption_dropout else self.reader.captions(row)
        noise = draw_noise(latent.shape, self.patch, generator)
        return Sample(
            clip_id=row["clip_id"],
            latent=latent,
            noise=noise,
            timestep=timestep,
            fps=sample_fps(row),
            temporal_stride=int(self.manifest.latents["temporal_stride"]),
            text=choose_caption(captions, prefers_dense=kind < self.config.dense_probability),
            extras=self._extras(row, latent.shape[1], generator),
            kept=self._kept(planned, generator),
            label=None if is_null else self._label(row, generator),
            given=self._given(grid_size(latent.shape, self.patch), generator),
        )

    def _is_null(self, generator: torch.Generator) -> bool:
        """Without caption and label: left to their own draws, that would be too few samples."""
        if self.model.text == "none" or self.model.num_classes is None:
            return False
        return float(torch.rand((), generator=generator)) < self.config.null_dropout

    def _label(self, row: dict[str, Any], generator: torch.Generator) -> int | None:
        label = sample_label(row)
        if label is None or float(torch.rand((), generator=generator)) < self.config.label_dropout:
            return None
        return label

    def _given(self, grid: Patch, generator: torch.Generator) -> Tensor | None:
        """The tokens of the first frames, for image-to-video and extension: one frame or several, as W.A.L.T (Gupta et
        al. 2023, §3.4) predicts frames. (t * h * w,) bool; None for none."""
        t, h, w = grid
        if not self.config.given_probability or t == 1:
            return None
        draw, number = torch.rand(2, generator=generator).tolist()
        if draw >= self.config.given_probability:
            return None
        num_frames = 1 + int(number * min(self.config.given_max_frames, t // 2))
        return torch.arange(t * h * w) < num_frames * h * w

    def _extras(self, row: dict[str, Any], num_frames: int, generator: torch.Generator) -> dict[str, float]:
        """The clip's conditions, each left out by a draw of its own; those that count frames, as far as it is cut."""
        draws = torch.rand(len(self.model.conditions), generator=generator).tolist()
        kept = [name for name, u in zip(self.model.conditions, draws, strict=True) if u >= self.config.extra_dropout]
        extras, stride = sample_extras(row, kept), int(self.manifest.latents.get("temporal_stride", 1))
        left = (1 + (num_frames - 1) * stride) / (1 + (row["latent_t"] - 1) * stride)
        return {name: value * left if name in OF_LENGTH else value for name, value in extras.items()}

    def _cut(self, latent: Tensor, planned: PlannedSample) -> Tensor:
        """As many frames as the plan left of a sample above the budget: the first, of which the very first was coded
        alone, as in any other sample."""
        return latent[:, : self._num_frames(planned) * self.patch[0]]

    def _num_frames(self, planned: PlannedSample) -> int:
        """Patches along time that the plan left."""
        return int(self.samples.num_frames(np.array([planned.row]))[0])

    def _kept(self, planned: PlannedSample, generator: torch.Generator) -> Tensor | None:
        """The tokens that are not dropped, drawn uniformly, in order; None for all."""
        total = self._num_grid_tokens(planned)
        if planned.num_tokens == total:
            return None
        return torch.randperm(total, generator=generator)[: planned.num_tokens].sort().values

    def _num_grid_tokens(self, planned: PlannedSample) -> int:
        """Tokens of the sample's grid, dropped ones too: its resolution, and with it its noise, stays what it is."""
        _, h, w = self.manifest.grids[planned.row].tolist()
        return self._num_frames(planned) * h * w


def sample_extras(row: dict[str, Any], names: Sequence[str]) -> dict[str, float]:
    """Numbers of a clip by name, those that it has."""
    return {name: float(row[name]) for name in names if row[name] is not None}


def sample_label(row: dict[str, Any]) -> int | None:
    """The number of the clip's class; None where it has none, or the run none."""
    return row.get("label")


def sample_fps(row: dict[str, Any]) -> float:
    """Frames per second of the clip as encoded; 0 for an image."""
    return 0.0 if row["kind"] == "image" or row["fps"] is None else float(row["fps"])


def choose_caption(captions: dict[str, Tensor], *, prefers_dense: bool) -> Tensor | None:
    """The preferred kind if the clip has it, else the other, else none."""
    for kind in reversed(KINDS) if prefers_dense else KINDS:
        if kind in captions:
            return captions[kind]
    return None
