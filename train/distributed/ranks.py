"""The ranks of a run: a process group, and its mesh of data parallel and context parallel axes."""

import gc
import logging
import os
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from curate.device import pick_device
from train.packing.share import ContextGroup

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True, slots=True)
class RankGrid:
    """This process among its peers.

    Ranks of one `dp` axis read different packs. Ranks of one `cp` axis share the tokens of a pack: each has a part of
    its loss. Gradients, losses and metrics are reduced over all ranks.
    """

    rank: int
    world_size: int
    device: torch.device
    mesh: DeviceMesh | None = None  # (dp, cp); None: one rank, without a process group

    @classmethod
    def of_group(cls, device: torch.device, context: int = 1) -> "RankGrid":
        """The grid of the process group, where there is one; `context` ranks side by side share a pack.

        Raises:
            ValueError: the ranks cannot be dealt into groups of `context`.
        """
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        check_groups(world_size, context)
        if not dist.is_initialized():
            return cls(rank=0, world_size=1, device=device)
        mesh = init_device_mesh(device.type, (world_size // context, context), mesh_dim_names=("dp", "cp"))
        return cls(rank=dist.get_rank(), world_size=world_size, device=device, mesh=mesh)

    @property
    def context_group(self) -> ContextGroup | None:
        """The ranks that share a pack with this one; None: it has its packs alone."""
        if self.mesh is None or self.mesh.size(1) == 1:
            return None
        name = self.mesh.get_group("cp").group_name
        return ContextGroup(name=name, rank=self.mesh.get_local_rank("cp"), size=self.mesh.size(1))

    @property
    def dp_rank(self) -> int:
        return self.rank if self.mesh is None else self.mesh.get_local_rank("dp")

    @property
    def dp_size(self) -> int:
        return self.world_size if self.mesh is None else self.mesh.size(0)

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Sum over all ranks, in place."""
        if self.world_size > 1:
            dist.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """Whether the flag of any rank is set."""
        flags = torch.tensor(float(flag), device=self.device)
        if self.world_size > 1:
            dist.all_reduce(flags)
        return bool(flags)

    def all_gather(self, values: Sequence[float]) -> Tensor:
        """Numbers of every rank, (ranks, n) float64 on CPU, on every rank."""
        rows = torch.zeros(self.world_size, len(values), dtype=torch.float64, device=self.device)
        rows[self.rank] = torch.tensor(values, dtype=torch.float64)
        return self.sum(rows).cpu()

    def all_gather_object(self, value: Any) -> list[Any]:
        """A small picklable value of every rank, on every rank."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def raise_together(self, error: Exception | None) -> None:
        """End all ranks where one of them has an error: the others would wait for it. Called by all of them.

        Raises:
            Exception: what is given here.
            ValueError: what another rank gives.
        """
        if self.any(error is not None):
            messages = self.all_gather_object(None if error is None else f"{type(error).__name__}: {error}")
            raise error or ValueError("; ".join(f"rank {i}: {m}" for i, m in enumerate(messages) if m is not None))

    def next_of(self, items: Iterator[Item]) -> Item:
        """The next item. What cannot be loaded on one rank ends all of them, as by `raise_together`."""
        found, error = None, None
        try:
            found = next(items)
        except Exception as raised:
            error = raised
        self.raise_together(error)
        assert found is not None
        return found

    def barrier(self) -> None:
        if self.world_size > 1:
            dist.barrier()


def check_groups(num_ranks: int, context: int) -> None:
    """See that ranks can be dealt into groups that share packs.

    Raises:
        ValueError: they cannot.
    """
    if num_ranks % context:
        raise ValueError(
            f"got {num_ranks} rank{'s' * (num_ranks > 1)} and train.parallel.context={context}: groups of {context} "
            f"ranks share a pack; start a multiple of {context} ranks, or set train.parallel.context to a divisor of "
            f"{num_ranks}"
        )


@contextmanager
def join_ranks(device: Literal["auto", "cpu", "cuda"], context: int = 1) -> Iterator[RankGrid]:
    """Join the process group that torchrun describes (WORLD_SIZE > 1) or that a launcher has opened already; `context`
    ranks side by side share a pack.

    Raises:
        ValueError: the ranks cannot be dealt into groups of `context`.
    """
    chosen = pick_device(device, setting="train.device")
    own_group = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized()
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(chosen)
    if own_group:
        dist.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield RankGrid.of_group(chosen, context)
    except BaseException as error:
        if own_group:
            _forget_locals(error)
        raise
    finally:
        if own_group:
            # Replicas go first: where the last to hold a group is one, it waits with Python's lock held for a thread
            # of the group that may want it (torch 2.13).
            gc.collect()
            dist.destroy_process_group()


@contextmanager
def log_once(ranks: RankGrid) -> Iterator[None]:
    """The main rank alone logs what all ranks find in the same data."""

    def passes(_: logging.LogRecord) -> bool:
        return ranks.is_main

    loggers = [logging.getLogger(name) for name in ("train.data.fit", "train.data.manifest")]
    for logger in loggers:
        logger.addFilter(passes)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(passes)


def _forget_locals(error: BaseException | None) -> None:
    """The frames that an error came through hold replicas."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
