"""Who sees whom inside a sample. Every pattern is a regrouping of the pack's tokens, so one attention serves all.

`spatial` and `temporal` are the two halves of ViViT's factorised self-attention (Arnab et al. 2021, §3.3).
"""

from typing import Literal, TypeAlias

import torch

from train.segments import PackedBatch, Patch, Regrouping

Pattern: TypeAlias = Literal["joint", "alternating"]
"""joint: a token sees its whole sample. alternating: in turn, blocks see one frame, and one place over all frames."""


def spatial(grid_sizes: tuple[Patch, ...]) -> Regrouping:
    """A segment per frame: the tokens lie frame by frame already."""
    order = torch.arange(sum(t * h * w for t, h, w in grid_sizes))
    return Regrouping.of(order, [h * w for t, h, w in grid_sizes for _ in range(t)])


def temporal(grid_sizes: tuple[Patch, ...]) -> Regrouping:
    """A segment per place: the tokens of one row and column over all frames of a sample."""
    parts, start = [], 0
    for t, h, w in grid_sizes:
        parts.append(start + torch.arange(t * h * w).reshape(t, h * w).T.flatten())
        start += t * h * w
    return Regrouping.of(torch.cat(parts), [t for t, h, w in grid_sizes for _ in range(h * w)])


def regroupings(pattern: Pattern, batch: PackedBatch) -> list[Regrouping | None]:
    """What block i applies is entry i, cyclically; None leaves the pack as it is. Computed once per pack."""
    if pattern == "joint":
        return [None]
    return [group(batch.grid_sizes).to(batch.tokens.device) for group in (spatial, temporal)]
