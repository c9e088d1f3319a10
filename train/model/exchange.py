"""What ranks that share a pack exchange: all tokens of some heads for some tokens of all heads (DeepSpeed-Ulysses,
Jacobs et al. 2023, §3), or sums.

The exchanges are operators of torch, which compilers and autograd meet as a whole. How many tokens each rank has is
data on the host, as the segments of attention are.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import _resolve_process_group as group_of

from train.packing.share import ContextGroup, Share


def to_heads(share: Share | None, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Each (n, H, D) of this rank's tokens to (N, H / ranks, D) of all tokens, in one exchange; as they are where no
    rank shares them."""
    if share is None:
        return tensors
    widths = [x.shape[-1] for x in tensors]
    joined = torch.cat(tensors, dim=-1) if len(tensors) > 1 else tensors[0]
    return tokens_to_heads(joined, share.tokens.shape[0], share.ends, share.group.name).split(widths, dim=-1)


def to_tokens(share: Share | None, x: Tensor, num_tokens: int) -> Tensor:
    """(N, H / ranks, D) of all tokens to (n, H, D) of the `num_tokens` of this rank."""
    return x if share is None else heads_to_tokens(x, num_tokens, share.ends, share.group.name)


def own_heads(share: Share, x: Tensor) -> Tensor:
    """(M, H, D) that every rank has to the heads that this one attends with, (M, H / ranks, D)."""
    return x.chunk(share.group.size, dim=1)[share.group.rank]


def summed(x: Tensor, group: ContextGroup) -> Tensor:
    """Sum over the ranks of what each has a part of; its gradient is that of the sum of the ranks' losses."""
    return _Summed.apply(x, group.name)


@torch.library.custom_op("reelpack::tokens_to_heads", mutates_args=())
def tokens_to_heads(x: Tensor, num_tokens: int, ends: Tensor, group: str) -> Tensor:
    """(n, H, D) to (N, H / ranks, D) contiguous.

    Args:
        x: of this rank's tokens.
        num_tokens: N, of all ranks.
        ends: (ranks + 1,) int64 on the host: where the tokens of each rank end.
        group: name of the process group.
    """
    counts = ends.diff().tolist()
    parts = x.unflatten(1, (len(counts), -1)).transpose(0, 1).flatten(0, 1)  # (ranks n, H / ranks, D)
    found = x.new_empty(num_tokens, *parts.shape[1:])
    _all_to_all(found, parts, counts, [len(x)] * len(counts), group)
    return found


@torch.library.custom_op("reelpack::heads_to_tokens", mutates_args=())
def heads_to_tokens(x: Tensor, num_tokens: int, ends: Tensor, group: str) -> Tensor:
    """(N, H / ranks, D) to (n, H, D) contiguous, `num_tokens` is n: the inverse of `tokens_to_heads`."""
    counts = ends.diff().tolist()
    found = x.new_empty(len(counts) * num_tokens, *x.shape[1:])
    _all_to_all(found, x.contiguous(), [num_tokens] * len(counts), counts, group)
    return found.unflatten(0, (len(counts), num_tokens)).transpose(0, 1).flatten(1, 2).contiguous()


@tokens_to_heads.register_fake
def _(x: Tensor, num_tokens: int, ends: Tensor, _group: str) -> Tensor:
    return x.new_empty(num_tokens, x.shape[1] // (len(ends) - 1), x.shape[2])


@heads_to_tokens.register_fake
def _(x: Tensor, num_tokens: int, ends: Tensor, _group: str) -> Tensor:
    return x.new_empty(num_tokens, x.shape[1] * (len(ends) - 1), x.shape[2])


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, _, ends, ctx.group = inputs
    ctx.num_rows = x.shape[0]
    ctx.save_for_backward(ends)


def _back_to_tokens(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return heads_to_tokens(grad, ctx.num_rows, *ctx.saved_tensors, ctx.group), None, None, None


def _back_to_heads(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return tokens_to_heads(grad, ctx.num_rows, *ctx.saved_tensors, ctx.group), None, None, None


tokens_to_heads.register_autograd(_back_to_tokens, setup_context=_keep)
heads_to_tokens.register_autograd(_back_to_heads, setup_context=_keep)


def _all_to_all(found: Tensor, parts: Tensor, received: Sequence[int], sent: Sequence[int], group: str) -> None:
    dist.all_to_all_single(found, parts, list(received), list(sent), group=group_of(group))


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: str) -> Tensor:
        ctx.group = group
        return _all_reduced(x, group)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _all_reduced(grad, ctx.group), None


def _all_reduced(x: Tensor, group: str) -> Tensor:
    total = x.clone()
    dist.all_reduce(total, group=group_of(group))
    return total
