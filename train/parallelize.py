"""Ranks and devices. The model knows neither; the loop meets them here only."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True, kw_only=True, slots=True)
class Worker:
    """This process among its peers."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Sum over all ranks."""
        if self.world_size > 1:
            dist.all_reduce(values)
        return values

    def gather(self, value: Any) -> list[Any]:
        """A small picklable value of every rank, on every rank."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        if self.world_size > 1:
            dist.barrier()


def pick_device(device: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device that a configuration means.

    Raises:
        ValueError: CUDA is asked for and not there.
    """
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise ValueError("got device=cuda, and torch sees no CUDA device; set device=auto, or install torch for CUDA")
    return torch.device("cuda" if available and device != "cpu" else "cpu")


@contextmanager
def join_workers(device: Literal["auto", "cpu", "cuda"]) -> Iterator[Worker]:
    """Join the process group that torchrun describes (WORLD_SIZE > 1) or that a launcher has opened already."""
    chosen = pick_device(device)
    own_group = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized()
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(chosen)
    if own_group:
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        grouped = dist.is_initialized()
        yield Worker(
            rank=dist.get_rank() if grouped else 0,
            world_size=dist.get_world_size() if grouped else 1,
            device=chosen,
        )
    finally:
        if own_group:
            dist.destroy_process_group()


def parallelize(model: nn.Module, worker: Worker) -> nn.Module:
    """Replicate over ranks; a synchronized backward leaves the *average* of the ranks' gradients in the parameters."""
    if worker.world_size == 1:
        return model
    return DistributedDataParallel(model, device_ids=[worker.device] if worker.device.type == "cuda" else None)


def accumulate(model: nn.Module, *, more_to_come: bool) -> AbstractContextManager[None]:
    """Do not synchronise gradients while more packs of the same step follow."""
    if more_to_come and isinstance(model, DistributedDataParallel):
        return model.no_sync()
    return nullcontext()
