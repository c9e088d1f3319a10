"""The one attention: tokens see the tokens of their own segment, and nothing else.

Three ways to compute the same function. One operator (`segment_attention`) cuts the pack into its segments, on every
device and for every pattern: Σ nᵢ² work. FlexAttention reads the pack unreordered, on CUDA, at any head width and
in single precision; compiled blocks call it from outside their graphs. A dense mask, the oracle of tests, costs
(Σ nᵢ)².
"""

from collections.abc import Callable
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional as F

from train.model.mixers.attention_config import Backend
from train.model.segment_attention import segment_attention
from train.packing.segments import Segments

BLOCK_SIZE = 128  # FlexAttention's


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
    if backend == "flex":
        return _flex_attention(q, k, v, segments_q, segments_k)
    if backend == "dense":
        return _dense_attention(q, k, v, segments_q, segments_k)
    ends = segments_q.cu_seqlens, segments_k.cu_seqlens, segments_q.host.ends, segments_k.host.ends
    out, _ = segment_attention(q, k, v, *ends, has_flash(q, backend))
    return out


def has_flash(q: Tensor, backend: Backend) -> bool:
    """A flash kernel computes these queries."""
    is_half = q.dtype in (torch.float16, torch.bfloat16)
    return not q.is_cuda or backend == "varlen" or (backend == "auto" and is_half)


def _dense_attention(q: Tensor, k: Tensor, v: Tensor, segments_q: Segments, segments_k: Segments) -> Tensor:
    mask = segments_q.segment_ids[:, None] == segments_k.segment_ids[None, :]  # (L, M)
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))  # (1, H, n, D_head)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)[0].transpose(0, 1)


@torch.compiler.disable  # its mask is built from the segments, once for all blocks
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
