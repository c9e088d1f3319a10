"""From a planned pack to tensors: every read is a byte range.

What a sample is does not depend on its pack, its rank or its step (`sample`).
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from fsspec.implementations.local import LocalFileSystem

from curate.storage.place import locate
from train.align.base import TokenFeatures
from train.data.config import DataConfig
from train.data.epoch import EpochSamples
from train.data.manifest import Manifest
from train.data.plan import Cursor, PlannedPack, Planner
from train.data.read import ClipReader
from train.data.sample import SampleBuilder
from train.model.config import ModelConfig
from train.objective.base import Objective
from train.packing.batch import PackedBatch, pack
from train.packing.share import ContextGroup


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedStep:
    """One optimizer step: the packs of this rank, or its parts of those of its group, and the size of the whole step
    over all ranks.

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
    encodes = any(any(table["encode"].unique().to_pylist()) for table in manifest.latent_tables)
    return NUM_LOCAL_READERS if is_local and not encodes else NUM_READERS


class PackLoader:
    """Materialises planned packs; where a group of ranks shares them, this rank's part of each."""

    def __init__(
        self,
        manifest: Manifest,
        objective: Objective,
        config: DataConfig,
        *,
        model: ModelConfig,
        seed: int,
        pin: bool = False,
        device: torch.device | None = None,
        group: ContextGroup | None = None,
        features: TokenFeatures | None = None,
    ) -> None:
        self.manifest = manifest
        self.samples = EpochSamples(manifest, config.epoch, config.plan, seed)
        # A block takes 24 n d² for its layers and 4 n² d for attention.
        self.planner = Planner(self.samples, seed, config.plan, pair_cost=model.pair_cost)
        self.model = model
        reader = ClipReader(manifest, model.patch, device)
        reader.prepare()
        self.builder = SampleBuilder(self.samples, reader, objective, config, model, seed, features)
        self._pool = ThreadPoolExecutor(num_readers(manifest), thread_name_prefix="reader")
        self.group = group
        self.pin = pin  # what is loaded is in pinned memory, from which a GPU copies while it computes

    def steps(self, start: Cursor, rank: int, world_size: int) -> Iterator[LoadedStep]:
        """The endless sequence of steps from `start` on, with the packs of one rank, or of one group of ranks, of
        `world_size`."""
        mean_samples, mean_tokens = self.planner.mean_step
        if rank == 0 and (self.group is None or self.group.rank == 0):
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
        samples = list(self._pool.map(lambda one: self.builder.build(one, planned.epoch), planned.samples))
        batch = self.model.prepare(pack(samples, self.model.patch, self.manifest.text_dim, self.model.conditions))
        if self.group is not None:
            batch = self.model.share(batch, self.group)
        return batch.pin_memory() if self.pin else batch
