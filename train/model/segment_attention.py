"""Attention within segments as one operator of torch, which compilers and autograd meet as a whole.

How a pack is cut is data on the host, so no pack needs other code and no device is waited for. Consecutive
segments of one shape are a run; runs are computed by one of three kernels.

value     segments of one key: what attends to it gets its value
flash     on CPU one call per run; on CUDA one variable-length call for all runs that are adjacent
products  on CUDA, many equal short segments and single precision: batched matrix products of bounded size. (The
          variable-length kernel's backward takes 128 rows for each segment: 12 GiB for 64 images along time.)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import groupby
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

SHORT = 64
"""Longest segments that are batched on CUDA: longer ones fill half of the flash kernel's 128 rows and more."""
FEW = 4
"""Fewer equal segments than these are no batch on CUDA: they are computed with their neighbours."""
MAX_BATCH = 65_535
"""Products of a batch: the grid of a launch ends there."""
MAX_SCORES = 2**25
"""Scores of a batch: 128 MiB in single precision."""

Kernel: TypeAlias = Literal["value", "flash", "products"]
Pair: TypeAlias = tuple[Tensor, Tensor]
Triple: TypeAlias = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Consecutive segments of one shape."""

    g: int  # segments
    n: int  # queries of each
    m: int  # keys of each

    def heads_first(self, x: Tensor, size: int) -> Tensor:
        """(g size, H, D) to (g, H, size, D)."""
        return x.unflatten(0, (self.g, size)).transpose(1, 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Consecutive runs that one call of a kernel computes."""

    kernel: Kernel
    runs: tuple[Run, ...]
    q: slice  # queries in the pack
    k: slice  # keys in the pack
    ends: slice  # of the segments' cumulated lengths


@torch.library.custom_op("reelpack::segment_attention", mutates_args=())
def segment_attention(
    q: Tensor, k: Tensor, v: Tensor, cu_q: Tensor, cu_k: Tensor, ends_q: Tensor, ends_k: Tensor, flash: bool
) -> tuple[Tensor, Tensor]:
    """Softmax attention of q (L, H, D) over k and v (M, H, D) within S segments.

    Args:
        q: queries.
        k: keys; rows beyond the segments are attended to by no query.
        v: values, of the type of the queries.
        cu_q: (S + 1,) int32 cumulated lengths on the device.
        cu_k: of the keys.
        ends_q: the same on the host.
        ends_k: of the keys.
        flash: the device has a flash kernel for this type.

    Returns:
        (L, H, D), and the logarithm of each softmax's denominator, (L, H) float32.
    """
    return attend(q, k, v, cu_q, cu_k, ends_q, ends_k, flash)


def attend(
    q: Tensor, k: Tensor, v: Tensor, cu_q: Tensor, cu_k: Tensor, ends_q: Tensor, ends_k: Tensor, flash: bool,
    *, whole: bool = True,
) -> Pair:  # fmt: skip
    """As `segment_attention`, which is this as an operator. `whole`: the keys are all that a query sees; else the
    denominators count where it has one key, too."""
    if not len(q):
        return torch.empty_like(q), q.new_empty(q.shape[:2], dtype=torch.float32)
    outs = []
    for part in parts_of(ends_q, ends_k, cuda=q.is_cuda, flash=flash, whole=whole):
        tensors = q[part.q], k[part.k], v[part.k]
        if part.kernel == "flash" and q.is_cuda:
            outs.append(_flash_cuda(*tensors, cu_q[part.ends], cu_k[part.ends], part))
        else:
            outs.append(_FORWARD[part.kernel](*tensors, part.runs[0]))
    out, lse = (_joined(x) for x in zip(*outs, strict=True))
    return out, lse


@torch.library.custom_op("reelpack::segment_attention_backward", mutates_args=())
def segment_attention_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    cu_q: Tensor,
    cu_k: Tensor,
    ends_q: Tensor,
    ends_k: Tensor,
    flash: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v: (L, H, D), (M, H, D) and (M, H, D), in the dtype of each."""
    return attend_backward(grad, q, k, v, out, lse, cu_q, cu_k, ends_q, ends_k, flash)


def attend_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, cu_q: Tensor, cu_k: Tensor,
    ends_q: Tensor, ends_k: Tensor, flash: bool, *, whole: bool = True,
) -> Triple:  # fmt: skip
    """As `segment_attention_backward`. Not `whole`: output and denominators are of more keys than these."""
    if not len(q):
        return torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    grads = []
    for part in parts_of(ends_q, ends_k, cuda=q.is_cuda, flash=flash, whole=whole):
        tensors = grad[part.q], q[part.q], k[part.k], v[part.k], out[part.q], lse[part.q]
        if part.kernel == "flash" and q.is_cuda:
            grads.append(_flash_cuda_backward(*tensors, cu_q[part.ends], cu_k[part.ends], part))
        else:
            grads.append(_BACKWARD[part.kernel](*tensors, part.runs[0]))
    dq, dk, dv = zip(*grads, strict=True)
    unseen = [k.new_zeros(len(k) - part.k.stop, *k.shape[1:])] if part.k.stop < len(k) else []
    return _joined(dq), _joined([*dk, *unseen]), _joined([*dv, *unseen])


@segment_attention.register_fake
def _(q: Tensor, *_: object) -> Pair:
    return q.new_empty(q.shape), q.new_empty(q.shape[:2], dtype=torch.float32)


@segment_attention_backward.register_fake
def _(_grad: Tensor, q: Tensor, k: Tensor, v: Tensor, *_: object) -> Triple:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Pair) -> None:
    q, k, v, cu_q, cu_k, ends_q, ends_k, ctx.flash = inputs
    ctx.save_for_backward(q, k, v, *output, cu_q, cu_k, ends_q, ends_k)


def _gradients(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    return (*segment_attention_backward(grad, *ctx.saved_tensors, ctx.flash), None, None, None, None, None)


segment_attention.register_autograd(_gradients, setup_context=_keep)


@register_flop_formula(torch.ops.reelpack.segment_attention, get_raw=True)
def _flops(q: Tensor, _k: Tensor, _v: Tensor, _cu_q: Tensor, _cu_k: Tensor, *ends: Any, **_: object) -> int:
    """Two products of each query with each key of its segment."""
    return sum(4 * run.g * run.n * run.m for run in runs_of(*ends[:2])) * q.shape[1] * q.shape[2]


def runs_of(ends_q: Tensor, ends_k: Tensor) -> list[Run]:
    """Runs of the segments that end at `ends_q` and `ends_k`, each (S + 1,) and on the host.

    Raises:
        ValueError: the keys have another number of segments.
    """
    if len(ends_q) != len(ends_k):
        raise ValueError(f"got {len(ends_q) - 1} segments of queries and {len(ends_k) - 1} of keys; expected as many")
    return list(_runs(ends_q.numpy().tobytes(), ends_k.numpy().tobytes(), ends_q.numpy().dtype))


@lru_cache(maxsize=256)  # every block of a model, forward and backward, meets the same segments
def _runs(ends_q: bytes, ends_k: bytes, dtype: np.dtype[Any]) -> tuple[Run, ...]:
    n, m = (np.diff(np.frombuffer(ends, dtype)) for ends in (ends_q, ends_k))
    starts = np.flatnonzero(np.r_[True, (n[1:] != n[:-1]) | (m[1:] != m[:-1])])
    shapes = np.stack([np.diff(starts, append=len(n)), n[starts], m[starts]], axis=1)
    return tuple(Run(g=g, n=n, m=m) for g, n, m in shapes.tolist())


def parts_of(ends_q: Tensor, ends_k: Tensor, *, cuda: bool, flash: bool, whole: bool = True) -> Iterator[Part]:
    """The parts of a pack whose segments end at `ends_q` and `ends_k`, each (S + 1,) and on the host, in order.

    Each run is a part of its own, except those that the varlen kernel takes at once.
    """
    row, key, segment = 0, 0, 0
    kernel_of_run = partial(kernel_of, cuda=cuda, flash=flash, whole=whole)
    for kernel, runs in groupby(runs_of(ends_q, ends_k), kernel_of_run):
        for members in [tuple(runs)] if cuda and kernel == "flash" else [(run,) for run in runs]:
            rows, keys = sum(run.g * run.n for run in members), sum(run.g * run.m for run in members)
            last = segment + sum(run.g for run in members)
            places = {"q": slice(row, row + rows), "k": slice(key, key + keys), "ends": slice(segment, last + 1)}
            yield Part(kernel=kernel, runs=members, **places)
            row, key, segment = row + rows, key + keys, last


def kernel_of(run: Run, *, cuda: bool, flash: bool, whole: bool = True) -> Kernel:
    """What computes a run; the keys are the `whole` of what its queries see."""
    is_batch = run.g >= FEW or not (cuda and flash)
    if run.m == 1 and is_batch and whole:
        return "value"
    if flash and not (cuda and is_batch and max(run.n, run.m) <= SHORT):
        return "flash"
    return "products"


def workspace_bytes(num_tokens: int, num_heads: int, head_dim: int, *, flash: bool) -> int:
    """The most that the backward of one call takes on CUDA in addition to its results, however a pack is cut.

    The flash kernel adds up gradients of queries in float32, heads padded to 32, in 128 rows more for each segment, of
    which those that are not batched are longer than `SHORT`; products keep the scores, their gradients and weights.
    """
    rows = num_tokens + 128 * (num_tokens // (SHORT + 1) + FEW * SHORT)
    gradients = 4 * rows * num_heads * -(-head_dim // 32) * 32
    products = 3 * 4 * min(MAX_SCORES, num_heads * num_tokens * (SHORT if flash else num_tokens))
    return max(gradients, products) if flash else products


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(parts)) if len(parts) > 1 else parts[0].contiguous()


def _tokens_first(x: Tensor) -> Tensor:
    """(g, H, n, …) to (g n, H, …)."""
    return x.transpose(1, 2).flatten(0, 1)


def _value(q: Tensor, _k: Tensor, v: Tensor, run: Run) -> Pair:
    return v.repeat_interleave(run.n, 0), q.new_zeros(q.shape[:2], dtype=torch.float32)


def _value_backward(grad: Tensor, q: Tensor, k: Tensor, _v: Tensor, _out: Tensor, _lse: Tensor, run: Run) -> Triple:
    return torch.zeros_like(q), torch.zeros_like(k), grad.unflatten(0, (run.g, run.n)).sum(1)


def _flash_cpu(q: Tensor, k: Tensor, v: Tensor, run: Run) -> Pair:
    inputs = run.heads_first(q, run.n), run.heads_first(k, run.m), run.heads_first(v, run.m)
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*inputs)  # (g, H, n, D), (g, H, n)
    return _tokens_first(out), _tokens_first(lse)


def _flash_cpu_backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, run: Run) -> Triple:
    of_queries = [run.heads_first(x, run.n) for x in (grad, q, out, lse)]
    of_keys = [run.heads_first(x, run.m) for x in (k, v)]
    grads = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
        *of_queries[:2], *of_keys, *of_queries[2:], 0.0, False
    )
    return tuple(_tokens_first(x) for x in grads)


def _flash_cuda(q: Tensor, k: Tensor, v: Tensor, cu_q: Tensor, cu_k: Tensor, part: Part) -> Pair:
    lengths = cu_q - cu_q[:1], cu_k - cu_k[:1], *_longest(part)
    out, lse, *_ = torch.ops.aten._flash_attention_forward(q, k, v, *lengths, 0.0, False, False)
    return out, lse.transpose(0, 1)  # (n, H, D), (n, H)


def _flash_cuda_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, cu_q: Tensor, cu_k: Tensor, part: Part
) -> Triple:
    lengths = cu_q - cu_q[:1], cu_k - cu_k[:1], *_longest(part)
    # The state of a generator is read only for dropout, which is not used.
    state, unused = torch.zeros(2, dtype=torch.uint64, device=q.device), q.new_empty(0)
    transposed = lse.transpose(0, 1).contiguous()  # (H, n)
    return torch.ops.aten._flash_attention_backward(
        grad.contiguous(), q, k, v, out, transposed, *lengths, 0.0, False, state, unused
    )


def _longest(part: Part) -> tuple[int, int]:
    return max(run.n for run in part.runs), max(run.m for run in part.runs)


def batches_of(run: Run, num_heads: int) -> Iterator[tuple[slice, slice]]:
    """Segments and queries of a run whose products are launched together."""
    queries = max(1, min(run.n, MAX_SCORES // (num_heads * run.m)))
    segments = max(1, min(MAX_BATCH // num_heads, MAX_SCORES // (num_heads * queries * run.m)))
    for first in range(0, run.g, segments):
        for query in range(0, run.n, queries):
            yield slice(first, first + segments), slice(query, query + queries)


def _products(q: Tensor, k: Tensor, v: Tensor, run: Run) -> Pair:
    q4, k4, v4 = run.heads_first(q, run.n), run.heads_first(k, run.m), run.heads_first(v, run.m)
    out = q.new_empty(run.g, run.n, *q.shape[1:]).transpose(1, 2)  # (g, H, n, D)
    lse = q.new_empty(run.g, run.n, q.shape[1], dtype=torch.float32).transpose(1, 2)  # (g, H, n)
    with torch.autocast(q.device.type, enabled=False):
        for at, i in batches_of(run, q.shape[1]):
            scores = _scores(q4[at, :, i], k4[at])  # (g, H, n, m)
            lse[at, :, i] = scores.logsumexp(-1)
            out[at, :, i] = scores.softmax(-1) @ v4[at].float()
    return _tokens_first(out), _tokens_first(lse)


def _products_backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, run: Run) -> Triple:
    q4, grad4, out4, lse4 = (run.heads_first(x, run.n) for x in (q, grad, out, lse))
    k4, v4 = run.heads_first(k, run.m), run.heads_first(v, run.m)
    dq = torch.empty_like(q).unflatten(0, (run.g, run.n)).transpose(1, 2)
    dk, dv = (torch.zeros(run.g, run.m, *q.shape[1:], device=q.device).transpose(1, 2) for _ in range(2))  # float32
    scale = q.shape[-1] ** -0.5
    with torch.autocast(q.device.type, enabled=False):
        for at, i in batches_of(run, q.shape[1]):
            weights = (_scores(q4[at, :, i], k4[at]) - lse4[at, :, i, None]).exp_()  # (g, H, n, m)
            upstream = grad4[at, :, i].float()  # (g, H, n, D)
            dv[at] += weights.transpose(-1, -2) @ upstream
            of_weights = upstream @ v4[at].float().transpose(-1, -2)  # (g, H, n, m)
            mean = (upstream * out4[at, :, i]).sum(-1, keepdim=True)  # (g, H, n, 1)
            of_scores = of_weights.sub_(mean).mul_(weights).mul_(scale)
            dq[at, :, i] = of_scores @ k4[at].float()
            dk[at] += of_scores.transpose(-1, -2) @ q4[at, :, i].float()
    return _tokens_first(dq), _tokens_first(dk).to(k.dtype), _tokens_first(dv).to(v.dtype)


def _scores(q: Tensor, k: Tensor) -> Tensor:
    """(…, n, D) and (…, m, D) to (…, n, m) float32."""
    return (q.float() * q.shape[-1] ** -0.5) @ k.float().transpose(-1, -2)


_FORWARD = {"value": _value, "flash": _flash_cpu, "products": _products}
_BACKWARD = {"value": _value_backward, "flash": _flash_cpu_backward, "products": _products_backward}
