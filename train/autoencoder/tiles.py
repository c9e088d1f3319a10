"""Frames in overlapping tiles: memory is bounded by the tile, and neighbors are blended where they overlap.

A tile's values near its edges differ from those of the whole frame, because what lies beyond the edge is missing. In
an overlap the weight of a tile falls linearly towards its edge.
"""

from collections.abc import Callable, Sequence
from types import EllipsisType

import torch
from torch import Tensor

OVERLAP = 0.25
"""Of a tile's side, at least."""

Place = tuple[EllipsisType, slice, slice]
"""Where a tile lies: `x[place]`."""


def tiled(
    compute: Callable[[Place], Tensor], sides: Sequence[int], *, tile: int, multiple: int, scale: tuple[int, int]
) -> Tensor:
    """Compute tile by tile what is too large as a whole.

    Args:
        compute: the place of a tile of height h and width w to (B, C, T, h · up / down, w · up / down).
        sides: height H and width W of the whole, multiples of `multiple`.
        tile: longest side of a tile.
        multiple: of which the sides and places of tiles are.
        scale: `(up, down)`, of sides of the output over those of the input.

    Returns:
        (B, C, T, H · up / down, W · up / down) float32 on the CPU.
    """
    up, down = scale
    height, width = sides
    out: Tensor | None = None
    weight = torch.zeros(height * up // down, width * up // down)
    for top, bottom in spans(height, tile, multiple):
        for left, right in spans(width, tile, multiple):
            part = compute((..., slice(top, bottom), slice(left, right))).float().cpu()
            ramp = _ramp(part.shape[-2], top > 0, bottom < height)[:, None] * _ramp(
                part.shape[-1], left > 0, right < width
            )
            rows, columns = (slice(a * up // down, b * up // down) for a, b in ((top, bottom), (left, right)))
            if out is None:
                out = torch.zeros(*part.shape[:-2], *weight.shape)
            out[..., rows, columns] += part * ramp
            weight[rows, columns] += ramp
    assert out is not None
    return out.div_(weight)


def spans(length: int, tile: int, multiple: int) -> list[tuple[int, int]]:
    """Where tiles of equal size lie along a side: first and last position, multiples of `multiple`."""
    side = max(multiple, tile // multiple * multiple)
    if length <= side:
        return [(0, length)]
    step = side - max(multiple, round(side * OVERLAP / multiple) * multiple) if side > multiple else side
    count = -(-(length - side) // step) + 1
    starts = [round(i * (length - side) / (count - 1) / multiple) * multiple for i in range(count)]
    return [(start, start + side) for start in starts]


def _ramp(length: int, from_edge: bool, to_edge: bool) -> Tensor:
    """(length,) weights that rise over the overlap with the tile before, and fall over that with the next."""
    overlap = max(1, round(length * OVERLAP))
    rise = (torch.arange(length) + 1) / (overlap + 1)
    weights = torch.ones(length)
    if from_edge:
        weights = torch.minimum(weights, rise)
    if to_edge:
        weights = torch.minimum(weights, rise.flip(0))
    return weights
