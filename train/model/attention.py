"""The one attention: tokens see the tokens of their own segment, and nothing else.

Four ways to compute the same function, chosen by the device. On CUDA a variable-length flash kernel reads the pack as
it lies; FlexAttention does the same at any head width and in float32. On CPU each run of equal segments is one call of
scaled-dot-product attention: no kernel for packs has a CPU backward, and the work is Σ nᵢ² either way. A dense mask is
the oracle of the tests; it costs (Σ nᵢ)².
"""

import inspect
from collections.abc import Callable
from functools import cache
from itertools import groupby
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional as F

from train.model.config import Backend
from train.segments import Segments

BLOCK_SIZE = 128  # FlexAttention's


@torch.compiler.disable  # its lengths are Python integers that change with every pack
def attention(
    q: Tensor, k: Tensor, v: Tensor, segments_q: Segments, segments_k: Segments, backend: Backend = "auto"
) -> Tensor:
    """Softmax attention within segments: segment i of the queries sees segment i of the keys.

    Args:
        q: (L, H, D_head).
        k: (M, H, D_head).
        v: (M, H, D_head).
        segments_q: over L; `segments_k` over M has as many segments.
        backend: "auto" is "varlen" for half precision on CUDA and "segments" elsewhere.

    Returns:
        (L, H, D_head).
    """
    assert segments_q.num_segments == segments_k.num_segments
    if backend == "auto":
        half = q.dtype in (torch.float16, torch.bfloat16)
        backend = "varlen" if q.is_cuda and half else "segments"
    match backend:
        case "varlen":
            return _varlen_attention(q, k, v, segments_q, segments_k)
        case "flex":
            return _flex_attention(q, k, v, segments_q, segments_k)
        case "segments":
            return _segment_attention(q, k, v, segments_q, segments_k)
        case "dense":
            return _dense_attention(q, k, v, segments_q, segments_k)


def _segment_attention(q: Tensor, k: Tensor, v: Tensor, segments_q: Segments, segments_k: Segments) -> Tensor:
    """One call per run of equally long segments: g of them are a batch of g (one call per sample of a regrouping)."""
    runs = [
        (len(list(run)), *lengths)
        for lengths, run in groupby(zip(segments_q.lengths, segments_k.lengths, strict=True))
    ]
    if len(runs) == 1:
        return _batched(q, k, v, *runs[0])
    q_parts = q.split([g * n for g, n, _ in runs])
    k_parts, v_parts = (x.split([g * m for g, _, m in runs]) for x in (k, v))
    parts = zip(q_parts, k_parts, v_parts, runs, strict=True)
    return torch.cat([_batched(q_i, k_i, v_i, *run) for q_i, k_i, v_i, run in parts])  # (L, H, D_head)


def _batched(q: Tensor, k: Tensor, v: Tensor, g: int, n: int, m: int) -> Tensor:
    """g segments, each of n queries and m keys."""
    return _sdpa(q.unflatten(0, (g, n)), k.unflatten(0, (g, m)), v.unflatten(0, (g, m))).flatten(0, 1)


def _dense_attention(q: Tensor, k: Tensor, v: Tensor, segments_q: Segments, segments_k: Segments) -> Tensor:
    mask = segments_q.segment_ids[:, None] == segments_k.segment_ids[None, :]  # (L, M)
    return _sdpa(q[None], k[None], v[None], mask)[0]


def _sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """(g, n, H, D_head) in and out."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # (g, H, n, D_head)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)


def _varlen_attention(q: Tensor, k: Tensor, v: Tensor, segments_q: Segments, segments_k: Segments) -> Tensor:
    kernel, options = _varlen_kernel()
    lengths = (segments_q.cu_seqlens, segments_k.cu_seqlens, segments_q.max_seqlen, segments_k.max_seqlen)
    return kernel(q, k, v, *lengths, **options)


@cache
def _varlen_kernel() -> tuple[Callable[..., Tensor], dict[str, Any]]:
    """The kernel and the options that make it bidirectional: torch 2.10 took `is_causal`, later ones `window_size`."""
    from torch.nn.attention.varlen import varlen_attn

    names = inspect.signature(varlen_attn).parameters
    return varlen_attn, {"is_causal": False} if "is_causal" in names else {"window_size": (-1, -1)}


def _flex_attention(q: Tensor, k: Tensor, v: Tensor, segments_q: Segments, segments_k: Segments) -> Tensor:
    kernel = _flex_kernel()
    mask = _block_mask(segments_q, segments_k)
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))  # (1, H, n, D_head)
    return kernel(q, k, v, block_mask=mask)[0].transpose(0, 1)


@cache
def _flex_kernel() -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True)


# By the two objects themselves: every block of a model meets the same segments, and they die with their pack.
_BLOCK_MASKS: WeakKeyDictionary[Segments, WeakKeyDictionary[Segments, Any]] = WeakKeyDictionary()


def _block_mask(segments_q: Segments, segments_k: Segments) -> Any:
    masks = _BLOCK_MASKS.setdefault(segments_q, WeakKeyDictionary())
    if segments_k not in masks:
        masks[segments_k] = _build_block_mask(segments_q, segments_k)
    return masks[segments_k]


def _build_block_mask(segments_q: Segments, segments_k: Segments) -> Any:
    """From the segments at the ends of each block; the library's own way evaluates all L × M pairs."""
    from torch.nn.attention.flex_attention import BlockMask

    ids_q, ids_k = segments_q.segment_ids, segments_k.segment_ids
    (first_q, last_q, whole_q), (first_k, last_k, whole_k) = _block_ends(ids_q), _block_ends(ids_k)
    seen = (first_q[:, None] <= last_k) & (first_k <= last_q[:, None])  # (blocks of q, blocks of k)
    full = (whole_q & (first_q == last_q))[:, None] & whole_k & (first_k == last_k) & (first_q[:, None] == first_k)

    def same_segment(_batch: Tensor, _head: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return ids_q[i] == ids_k[j]

    blocks = [(x.sum(-1), x.int().argsort(dim=-1, descending=True, stable=True)) for x in (seen & ~full, full)]
    tables = [x.int()[None, None] for pair in blocks for x in pair]
    lengths = len(ids_q), len(ids_k)
    return BlockMask.from_kv_blocks(*tables, BLOCK_SIZE=BLOCK_SIZE, mask_mod=same_segment, seq_lengths=lengths)


def _block_ends(segment_ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of each block of tokens its first and last segment, and whether it is whole; each (blocks,)."""
    starts = torch.arange(0, len(segment_ids), BLOCK_SIZE, device=segment_ids.device)
    ends = starts + BLOCK_SIZE - 1
    last = segment_ids[ends.clamp(max=len(segment_ids) - 1)]
    return segment_ids[starts], last, ends < len(segment_ids)
