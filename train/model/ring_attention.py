"""Attention of a rank's queries to the keys of all ranks of a group, which go round in a ring (Ring Attention, Liu et
al. 2023, §3).

A rank meets the keys of one rank at a time. What it has made of those before is merged with them by the logarithms of
the softmaxes' denominators, so that no rank ever holds all keys. In the backward pass keys go round once more, and
their gradients with them.
"""

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import _resolve_process_group as group_of

from train.model.segment_attention import attend, attend_backward
from train.packing.segments import Ring
from train.packing.share import Share

Lists: TypeAlias = list[Tensor]
Ends: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]
NUM_TENSORS = 6
"""Of a piece, below."""


def ring_attention(ring: Ring, share: Share, q: Tensor, k: Tensor, v: Tensor, *, flash: bool) -> Tensor:
    """Softmax attention within the groups of a window: (n, H, D) of this rank's tokens each, in and out."""
    pieces: Lists = []
    for rank in range(share.group.size):
        piece = ring.pieces[rank]
        queries, keys = piece.query_segments, piece.key_segments
        ends = queries.cu_seqlens, keys.cu_seqlens, queries.host.ends, keys.host.ends
        pieces += [piece.queries, piece.keys, *ends]
    out, _ = _ring(ring.queries.apply(q), k, v, pieces, share.ends, share.group.name, flash)
    return ring.queries.undo(out)


@torch.library.custom_op("reelpack::ring_attention", mutates_args=())
def _ring(
    q: Tensor, k: Tensor, v: Tensor, pieces: Lists, ends: Tensor, group: str, flash: bool
) -> tuple[Tensor, Tensor]:
    """
    Args:
        q: (G, H, D) queries, in the order of the groups.
        k: (n, H, D) keys of this rank, in the order of its tokens.
        v: (n, H, D) values.
        pieces: for each rank: which queries and which of its keys, cumulated lengths of both on the device, and on the
            host.
        ends: (ranks + 1,) int64 on the host: where the tokens of each rank end.
        group: name of the process group.
        flash: as of `segment_attention`.

    Returns:
        (G, H, D), and the logarithm of each softmax's denominator, (G, H) float32.
    """
    out = torch.zeros(q.shape, dtype=torch.float32, device=q.device)
    lse = torch.full(q.shape[:2], -torch.inf, device=q.device)
    for rank, passing in _passed(torch.stack([k, v]), ends, group):
        rows, keys, lengths = _of_rank(pieces, rank)
        if not len(rows):
            continue
        seen = passing[0].index_select(0, keys), passing[1].index_select(0, keys)
        part, of_part = attend(q.index_select(0, rows), *seen, *lengths, flash, whole=False)
        before = lse.index_select(0, rows)
        after = torch.logaddexp(before, of_part)
        shares = (x.sub(after).exp_()[..., None] for x in (before, of_part))  # of the two in their sum
        merged = sum(share * x for share, x in zip(shares, (out.index_select(0, rows), part), strict=True))
        out.index_copy_(0, rows, merged)
        lse.index_copy_(0, rows, after)
    return out.to(q.dtype), lse


@torch.library.custom_op("reelpack::ring_attention_backward", mutates_args=())
def _ring_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    pieces: Lists,
    ends: Tensor,
    group: str,
    flash: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v."""
    dq = torch.zeros(q.shape, dtype=torch.float32, device=q.device)
    passing_grads = torch.zeros(2, *k.shape, dtype=torch.float32, device=k.device)
    counts = ends.diff().tolist()
    for rank, passing in _passed(torch.stack([k, v]), ends, group):
        rows, keys, lengths = _of_rank(pieces, rank)
        if len(rows):
            upstream, asking, found, denominators = (x.index_select(0, rows) for x in (grad, q, out, lse))
            seen = passing[0].index_select(0, keys), passing[1].index_select(0, keys)
            parts = attend_backward(upstream, asking, *seen, found, denominators, *lengths, flash, whole=False)
            dq.index_add_(0, rows, parts[0].float())
            for total, part in zip(passing_grads, parts[1:], strict=True):
                total.index_add_(0, keys, part.float())
        before = (rank - 1) % len(counts)
        # With the keys to the next rank; after the last turn each has its own.
        passing_grads = _Passing(passing_grads, counts[before], group).arrived()
    return dq.to(q.dtype), *(x.to(k.dtype, copy=True) for x in passing_grads.unbind())


@_ring.register_fake
def _(q: Tensor, *_: object) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), q.new_empty(q.shape[:2], dtype=torch.float32)


@_ring_backward.register_fake
def _(_grad: Tensor, q: Tensor, k: Tensor, v: Tensor, *_: object) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, pieces, ends, ctx.group, ctx.flash = inputs
    ctx.save_for_backward(q, k, v, *output, ends, *pieces)


def _gradients(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Any, ...]:
    *tensors, ends = ctx.saved_tensors[:6]
    pieces = list(ctx.saved_tensors[6:])
    grads = _ring_backward(grad, *tensors, pieces, ends, ctx.group, ctx.flash)
    return (*grads, [None] * len(pieces), None, None, None)


_ring.register_autograd(_gradients, setup_context=_keep)


def _of_rank(pieces: Sequence[Tensor], rank: int) -> tuple[Tensor, Tensor, Ends]:
    """Queries, keys, and where their segments end."""
    rows, keys, *ends = pieces[NUM_TENSORS * rank : NUM_TENSORS * (rank + 1)]
    return rows, keys, (ends[0], ends[1], ends[2], ends[3])


def _passed(own: Tensor, ends: Tensor, group: str) -> Iterator[tuple[int, Tensor]]:
    """What every rank has, (2, its tokens, …), with its number: this rank's, then those of the ranks before it. While
    one is worked on, the next is on its way."""
    counts, rank = ends.diff().tolist(), dist.get_rank(group_of(group))
    passing = own.contiguous()
    for turn in range(len(counts)):
        number = (rank - turn) % len(counts)
        is_last = turn + 1 == len(counts)
        coming = None if is_last else _Passing(passing, counts[number - 1], group)
        yield number, passing
        if coming is not None:
            passing = coming.arrived()


class _Passing:
    """What this rank has goes to the next one, and that of the one before comes."""

    def __init__(self, own: Tensor, num_coming: int, group: str) -> None:
        process_group = group_of(group)
        rank, size = dist.get_rank(process_group), dist.get_world_size(process_group)
        self._own = own.transpose(0, 1).contiguous()  # (n, 2, …), kept until it has gone
        self._coming = self._own.new_empty(num_coming, *self._own.shape[1:])
        sent, received = [0] * size, [0] * size
        sent[(rank + 1) % size], received[(rank - 1) % size] = len(own[0]), num_coming
        self._work = dist.all_to_all_single(
            self._coming, self._own, received, sent, group=process_group, async_op=True
        )

    def arrived(self) -> Tensor:
        self._work.wait()
        return self._coming.transpose(0, 1)
