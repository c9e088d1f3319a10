"""The selective scan of Mamba-2 in chunks (Dao & Gu 2024, §6, "state-space duality"), over the segments of a pack.

Within a chunk the recurrence is a product of masked matrices; between chunks a state is handed on. So the cost is
linear in tokens, and almost all of it is matrix products. A segment begins with an empty state: what is before it
has the factor 0.

Letters: G tokens, H heads, P features of a head, N numbers of a state, K chunks of Q tokens.
"""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

SLAB = 1024
"""Tokens, about, that are scanned at a time, so that what is between the steps stays in the caches of a CPU: 65,536
tokens at once took 2.5 times as long for each as 1,024."""


@torch.compiler.disable  # the number of chunks is that of a pack: a graph would be traced for each
def selective_scan(x: Tensor, log_decay: Tensor, b: Tensor, c: Tensor, segment_ids: Tensor, chunk: int) -> Tensor:
    """y_i = c_i · s_i of the states s_i = exp(log_decay_i) s_(i-1) + b_i x_iᵀ, which begin at 0 in each segment.

    Args:
        x: (G, H, P), scaled by the step size.
        log_decay: (G, H) float32, at most 0.
        b: (G, N), into the state; the same for all heads.
        c: (G, N), out of the state.
        segment_ids: (G,) ascending.
        chunk: Q.

    Returns:
        (G, H, P) in the type of `x`.
    """
    slab = chunk * max(1, SLAB // chunk)
    parts = zip(*(v.split(slab) for v in (x, log_decay, b, c, segment_ids)), strict=True)
    state, before = x.new_zeros(x.shape[1], b.shape[1], x.shape[2], dtype=torch.float32), segment_ids[:1] - 1
    outs = list[Tensor]()
    for x, log_decay, b, c, ids in parts:
        y, state = _scanned(x, log_decay, b, c, ids, state, before, chunk)
        outs.append(y)
        before = ids[-1:]
    return torch.cat(outs)


def _scanned(
    x: Tensor, log_decay: Tensor, b: Tensor, c: Tensor, ids: Tensor, state: Tensor, before: Tensor, chunk: int
) -> tuple[Tensor, Tensor]:
    """A part of the row, after a state (H, N, P) float32 of segment `before` (1,): its y, and the state at its end."""
    num_tokens = len(x)
    padding = -num_tokens % chunk
    x, log_decay, b, c = (F.pad(v, (0, 0) * (v.ndim - 1) + (0, padding)) for v in (x, log_decay, b, c))
    ids = F.pad(ids, (0, padding), value=-1).view(-1, chunk)  # (K, Q)
    x = x.view(-1, chunk, *x.shape[1:]).transpose(1, 2)  # (K, H, Q, P)
    b, c = b.view(-1, chunk, b.shape[-1]), c.view(-1, chunk, c.shape[-1])  # (K, Q, N)
    total = _cumulated(log_decay.view(-1, chunk, log_decay.shape[-1]).transpose(1, 2), ids)  # (K, H, Q)

    earlier = (ids[:, :, None] == ids[:, None, :]).tril()[:, None]  # (K, 1, Q, Q): pairs of a segment
    decay = (total[..., :, None] - total[..., None, :]).masked_fill(~earlier, -torch.inf).exp()  # (K, H, Q, Q)
    within = (decay * (c @ b.mT)[:, None]).to(x.dtype) @ x  # (K, H, Q, P)

    last = ids[:, -1:]  # (K, 1): the segment that the chunk hands on
    to_end = (total[..., -1:] - total).masked_fill((ids != last)[:, None], -torch.inf).exp()  # (K, H, Q)
    added = (b.mT[:, None] * to_end[..., None, :]).to(x.dtype) @ x  # (K, H, N, P)
    handed = torch.cat([before[:, None], last[:-1]])  # (K, 1): the segment of the state before the chunk
    kept = total[..., -1].exp() * (last == handed)  # (K, H): one segment from the end of the chunk before to here
    states = _Carried.apply(state, added.float(), kept)  # (K + 1, H, N, P)
    from_start = c[:, None] * (total.exp() * (ids == handed)[:, None])[..., None]  # (K, H, Q, N)
    y = within + from_start.to(x.dtype) @ states[:-1].to(x.dtype)
    return y.transpose(1, 2).flatten(0, 1)[:num_tokens], states[-1]


def _cumulated(values: Tensor, ids: Tensor) -> Tensor:
    """Sums over a segment's values in the chunk up to each token, in log Q steps: (K, H, Q), with `ids` (K, Q).

    A difference of sums over the whole chunk would round by what other segments hold.
    """
    back = 1
    while back < ids.shape[1]:
        same = F.pad(ids[:, back:] == ids[:, :-back], (back, 0))[:, None]  # (K, 1, Q)
        values = values + F.pad(values[..., :-back], (back, 0)).where(same, 0.0)
        back *= 2
    return values


class _Carried(torch.autograd.Function):
    """The states before each chunk and after the last: s_0 is given, s_(k+1) = kept_k s_k + added_k."""

    @staticmethod
    def forward(ctx: FunctionCtx, first: Tensor, added: Tensor, kept: Tensor) -> Tensor:
        """(H, N, P), (K, H, N, P) and (K, H), all float32, to (K + 1, H, N, P)."""
        states = torch.cat([first[None], added])
        for k in range(len(added)):
            states[k + 1].addcmul_(states[k], kept[k, :, None, None])
        ctx.save_for_backward(states, kept)
        return states

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        states, kept = ctx.saved_tensors
        total = grad.clone()  # (K + 1, H, N, P): of the states, by all that follows from them
        for k in range(len(kept) - 1, -1, -1):
            total[k].addcmul_(total[k + 1], kept[k, :, None, None])
        return total[0], total[1:], (total[1:] * states[:-1]).sum((-2, -1))
