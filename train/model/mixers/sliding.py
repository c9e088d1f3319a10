"""Sliding-window attention over the tokens of a pack (Beltagy et al. 2020, Longformer, §3.1).

The row of tokens is cut into pieces of `reach`; a piece sees itself and the pieces before and after it, less what is
further away or of another segment.

Letters: N tokens, H heads, B pieces of W = `reach` tokens.
"""

import math
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional as F

from train.model.flops import linear_flops
from train.model.mixers.attention import Projections
from train.model.mixers.base import TokenMixer
from train.model.mixers.sliding_config import SlidingConfig
from train.model.position import Rotation
from train.packing.segments import Segments, WindowLayout
from train.packing.shapes import STORED, Patch


class SlidingAttention(Projections, TokenMixer):
    """Tokens see those of their sample at most `reach` before or after them."""

    def __init__(self, *, reach: int, **sizes: Any) -> None:
        super().__init__(**sizes)
        self.reach = reach

    def forward(self, x: Tensor, layouts: Sequence[WindowLayout], rotation: Rotation | None) -> Tensor:
        (layout,) = layouts
        q, k, v = (layout.apply(y) for y in self.project(x, x, rotation))  # 3 × (N, H, D_head)
        return self.out(layout.undo(near_attention(q, k, v, layout.segments, self.reach)).flatten(1))  # (N, D)

    def flops(self, layouts: Sequence[WindowLayout], num_tokens: int) -> int:
        (layout,) = layouts
        return linear_flops(self, num_tokens) + 4 * self.width * num_near(layout.segments, self.reach)

    def initialize(self) -> None:
        self.initialize_projections()


def reaches_all(config: SlidingConfig, grid: Patch, depth: int) -> bool:
    """What the patches at two corners say reaches every other through the blocks."""
    numbers = torch.arange(math.prod(grid)).view(grid)
    rows = [numbers.permute([STORED.index(axis) for axis in order]).flatten() for order in config.orders]
    for start in (0, -1):
        reached = torch.zeros(numbers.numel())
        reached[start] = 1.0
        for block in range(depth):
            row = rows[block % len(rows)]
            near = F.max_pool1d(reached[row][None], 2 * config.reach + 1, 1, config.reach)[0]
            reached = reached.index_copy(0, row, near)
        if not reached.all():
            return False
    return True


def num_near(segments: Segments, reach: int) -> int:
    """Pairs of tokens of a segment that are at most `reach` apart."""
    lengths = segments.host.ends.diff().long()
    far = (lengths - 1 - reach).clamp(min=0)
    return int((lengths.square() - far * (far + 1)).sum())


@torch.compiler.disable  # the number of pieces is that of a pack: a graph would be traced for each
def near_attention(q: Tensor, k: Tensor, v: Tensor, segments: Segments, reach: int) -> Tensor:
    """Softmax attention to the tokens of a segment at most `reach` before or after; (N, H, D_head) in and out."""
    num_tokens = len(q)
    padding = -num_tokens % reach
    mask = _mask(segments, reach)
    queries = F.pad(q, (0, 0, 0, 0, 0, padding)).unflatten(0, (-1, reach)).transpose(1, 2)  # (B, H, W, D_head)
    keys, values = (
        F.pad(x, (0, 0, 0, 0, reach, padding + reach)).unfold(0, 3 * reach, reach).transpose(-1, -2) for x in (k, v)
    )  # (B, H, 3 W, D_head)
    out = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)  # (B, H, W, D_head)
    return out.transpose(1, 2).flatten(0, 1)[:num_tokens]


# By the object itself: every block of a model meets the same segments, and they die with their pack.
_MASKS: WeakKeyDictionary[Segments, dict[int, Tensor]] = WeakKeyDictionary()


def _mask(segments: Segments, reach: int) -> Tensor:
    """(B, 1, W, 3 W) bool: who sees whom."""
    known = _MASKS.setdefault(segments, {})
    if reach not in known:
        known[reach] = _build_mask(segments, reach)
    return known[reach]


def _build_mask(segments: Segments, reach: int) -> Tensor:
    padding = -segments.num_tokens % reach
    ids = F.pad(segments.segment_ids, (0, padding), value=-1)
    around = F.pad(ids, (reach, reach), value=-2).unfold(0, 3 * reach, reach)  # (B, 3 W)
    device = ids.device
    distance = torch.arange(3 * reach, device=device) - reach - torch.arange(reach, device=device)[:, None]  # (W, 3 W)
    same = ids.view(-1, reach, 1) == around[:, None]  # (B, W, 3 W)
    return (same & (distance.abs() <= reach))[:, None]
