"""One model on many ranks: DDP, FSDP2 or replicas of shards (HSDP), activation checkpointing, compilation. The model
knows none of them."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.fx.experimental import _config as shapes
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from train.distributed.ranks import RankGrid
from train.run.config import ParallelConfig

if TYPE_CHECKING:
    from train.optim.optimizer import AnyOptimizer

MAX_GRAPHS = 64
"""Of all blocks."""


def parallelize(
    model: nn.Module, ranks: RankGrid, config: ParallelConfig, dtype: torch.dtype = torch.float32
) -> nn.Module:
    """Spread a model with `blocks` over the ranks and put it on their devices; a synchronized backward leaves the
    *average* of the ranks' gradients.

    Args:
        model: changed in place; its parameters keep their names. On CPU: of a sharded one no device ever holds more
            than its part and one block.
        ranks: a model is replicated or sharded over all of them: those that share a pack have the gradients of a part
            of its loss each.
        config: mode, compilation, activation checkpointing.
        dtype: of activations, and of the blocks' gathered parameters where the model is sharded; its own stay float32.
    """
    blocks = list(model.blocks)
    if config.compile:
        _set_up_compiler()
    for number, block in enumerate(blocks):
        if config.compile:
            block.forward = torch.compile(block.forward, dynamic=True)
        # Around what is compiled: the compiler leaves alone what calls `checkpoint` through a partial.
        if config.activation_checkpoint_every and number % config.activation_checkpoint_every == 0:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    if ranks.world_size == 1:
        return model.to(ranks.device)
    if config.is_sharded:
        return _fully_sharded(model, blocks, _mesh_of_shards(ranks, config), dtype)
    replica = DistributedDataParallel(
        model.to(ranks.device),
        device_ids=[ranks.device] if ranks.device.type == "cuda" else None,
        gradient_as_bucket_view=True,  # or each rank holds all gradients twice
    )
    replica.broadcast_buffers = False  # they are constants (as an argument it is deprecated)
    return replica


def _mesh_of_shards(ranks: RankGrid, config: ParallelConfig) -> DeviceMesh:
    """All ranks; with hsdp as (replicas, shards), neighbors with shards of the same replica."""
    shards = config.num_shards(ranks.world_size)
    if config.mode == "fsdp":
        return init_device_mesh(ranks.device.type, (shards,), mesh_dim_names=("shard",))
    shape = ranks.world_size // shards, shards
    return init_device_mesh(ranks.device.type, shape, mesh_dim_names=("replicate", "shard"))


def _fully_sharded(model: nn.Module, blocks: Sequence[nn.Module], mesh: DeviceMesh, dtype: torch.dtype) -> nn.Module:
    model.to(memory_format=torch.contiguous_format)  # FSDP2 refuses weights of convolutions that are channels-last
    # Blocks travel in the type that autocast would give their weights. The rest is small and stays as it is: what
    # embeds conditions computes norms and tables of float32 numbers, with weights of the same type.
    for block in blocks:
        fully_shard(block, mesh=mesh, mp_policy=_travels_as(dtype))
    return fully_shard(model, mesh=mesh, mp_policy=_travels_as(torch.float32))


def _set_up_compiler() -> None:
    """For blocks, each one graph that serves every pack."""
    # That a width equals an offset says nothing of the next pack: guards on it compile blocks again and again.
    shapes.use_duck_shape = False
    # A float of a module, such as an epsilon, is a constant. As an input it makes the compiler trace each graph twice.
    torch._dynamo.config.specialize_float = True
    # Replicas' gradients travel while the blocks before them are differentiated: a block is not cut into buckets.
    torch._dynamo.config.optimize_ddp = False
    # Blocks of one code and unlike widths, those of a U-Net, are a graph each.
    torch._dynamo.config.recompile_limit = MAX_GRAPHS
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


def clear_gradients(model: nn.Module, optimizer: "AnyOptimizer") -> None:
    """Before the next step. Those of replicas stay where they are, in the buckets that travel: packs between which
    nothing is synchronised would put new ones beside them."""
    optimizer.zero_grad(set_to_none=not isinstance(model, DistributedDataParallel))


def reshard(model: nn.Module) -> None:
    """Let go of parameters that a forward pass without a backward one has gathered."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def to_local(tensor: Tensor) -> Tensor:
    """This rank's part of a sharded tensor, (n / dp, …) of (n, …), sharing its memory; any other tensor as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def full_tensor(tensor: Tensor) -> Tensor:
    """All of a sharded tensor, (n, …), on every rank; any other tensor as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
