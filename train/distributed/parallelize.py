"""Ranks and devices, copies and shards, recomputation and compilation. The model knows none of them; the loop meets
them here only."""

import gc
import logging
import os
import traceback
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.fx.experimental import _config as shapes
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from curate.device import pick_device
from train.run.config import ParallelConfig


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

    def table(self, values: Sequence[float]) -> Tensor:
        """Numbers of every rank, (ranks, n) float64 on CPU, on every rank."""
        rows = torch.zeros(self.world_size, len(values), dtype=torch.float64, device=self.device)
        rows[self.rank] = torch.tensor(values, dtype=torch.float64)
        return self.sum(rows).cpu()

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


@contextmanager
def join_workers(device: Literal["auto", "cpu", "cuda"]) -> Iterator[Worker]:
    """Join the process group that torchrun describes (WORLD_SIZE > 1) or that a launcher has opened already."""
    chosen = pick_device(device, setting="train.device")
    own_group = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized()
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(chosen)
    if own_group:
        dist.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo")
    try:
        grouped = dist.is_initialized()
        yield Worker(
            rank=dist.get_rank() if grouped else 0,
            world_size=dist.get_world_size() if grouped else 1,
            device=chosen,
        )
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
def told_once(worker: Worker) -> Iterator[None]:
    """What all ranks find in the same data is logged by the first alone."""

    def passes(_: logging.LogRecord) -> bool:
        return worker.is_first

    told = [logging.getLogger(name) for name in ("train.data.fit", "train.data.manifest")]
    for logger in told:
        logger.addFilter(passes)
    try:
        yield
    finally:
        for logger in told:
            logger.removeFilter(passes)


def _forget_locals(error: BaseException | None) -> None:
    """The frames that an error came through hold replicas."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def parallelize(
    model: nn.Module, worker: Worker, config: ParallelConfig, dtype: torch.dtype = torch.float32
) -> nn.Module:
    """Spread a model with `blocks` over ranks and put it on their devices; a synchronized backward leaves the
    *average* of the ranks' gradients.

    Args:
        model: changed in place; its parameters keep their names. On CPU: of a sharded one no device ever holds more
            than its part and one block.
        worker: this rank.
        config: how.
        dtype: of activations, and of the blocks' gathered parameters where the model is sharded; its own stay float32.
    """
    blocks = list(model.blocks)
    if config.compile:
        _set_up_compiler()
    for number, block in enumerate(blocks):
        if config.compile:
            block.forward = torch.compile(block.forward, dynamic=True)
        # Around what is compiled: the compiler leaves alone what calls `checkpoint` through a partial.
        if config.recompute_every and number % config.recompute_every == 0:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    if worker.world_size == 1:
        return model.to(worker.device)
    if config.mode == "shard":
        mesh = init_device_mesh(worker.device.type, (worker.world_size,))
        # Blocks travel in the type that autocast would give their weights. The rest is small and stays as it is: what
        # embeds conditions computes norms and tables of float32 numbers, with weights of the same type.
        for block in blocks:
            fully_shard(block, mesh=mesh, mp_policy=_travels_as(dtype))
        return fully_shard(model, mesh=mesh, mp_policy=_travels_as(torch.float32))
    replica = DistributedDataParallel(
        model.to(worker.device),
        device_ids=[worker.device] if worker.device.type == "cuda" else None,
        gradient_as_bucket_view=True,  # or each rank holds all gradients twice
    )
    replica.broadcast_buffers = False  # they are constants (as an argument it is deprecated)
    return replica


def _set_up_compiler() -> None:
    """For blocks, each one graph that serves every pack."""
    # That a width equals an offset says nothing of the next pack: guards on it compile blocks again and again.
    shapes.use_duck_shape = False
    # Replicas' gradients travel while the blocks before them are differentiated: a block is not cut into buckets.
    torch._dynamo.config.optimize_ddp = False
    # As without compilation: gradients of what is computed in float32 are.
    torch._functorch.config.backward_pass_autocast = "off"


def _travels_as(dtype: torch.dtype) -> MixedPrecisionPolicy:
    """Parameters are gathered in `dtype`, gradients summed in float32, inputs left to autocast."""
    return MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)


def accumulate(model: nn.Module, *, more_to_come: bool) -> AbstractContextManager[Any]:
    """Do not synchronise gradients while more packs of the same step follow; where the model is sharded, do: each rank
    would hold all gradients of the whole model meanwhile."""
    if more_to_come and isinstance(model, DistributedDataParallel):
        return model.no_sync()
    return nullcontext()


def clear_gradients(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Before the next step. Those of replicas stay where they are, in the buckets that travel: packs between which
    nothing is synchronised would put new ones beside them."""
    optimizer.zero_grad(set_to_none=not isinstance(model, DistributedDataParallel))


def reshard(model: nn.Module) -> None:
    """Let go of parameters that a forward pass without a backward one has gathered."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a sharded tensor, sharing its memory; any other tensor as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """All of a sharded tensor, on every rank; any other tensor as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
