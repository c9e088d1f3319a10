"""A 3 × 3 convolution of small pictures of unlike sizes as one matrix product over all of them.

A product per size reads and differentiates all weights again; with few patches of each size that is most of its time.
Here the nine neighbors of each patch are gathered, whatever picture they are of.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from train.packing.shapes import Patch

NUM_TAPS = 9


def neighbors(sizes: Sequence[Patch]) -> Tensor:
    """(N, 9) int64: the patches around each patch of pictures in a row, row by row; N: there is none.

    Args:
        sizes: (frames, rows, columns) of each sample.
    """
    total, start, tables = sum(t * h * w for t, h, w in sizes), 0, list[Tensor]()
    for t, h, w in sizes:
        places = start + torch.arange(t * h * w).view(t, h, w)
        start += t * h * w
        padded = F.pad(places, (1, 1, 1, 1), value=total)
        taps = [padded[:, row : row + h, column : column + w] for row in range(3) for column in range(3)]
        tables.append(torch.stack(taps, dim=-1).view(-1, NUM_TAPS))
    return torch.cat(tables)


def gathered_convolution(x: Tensor, weight: Tensor, bias: Tensor, taps: Tensor) -> Tensor:
    """(N, C) to (N, C'), by weights (C', C, 3, 3), (C',) and `neighbors` (N, 9)."""
    return _Gathered.apply(x, weight, bias, taps)


class _Gathered(torch.autograd.Function):
    """What is gathered is nine times the input, and is gathered again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, taps: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, taps)
        return torch.addmm(bias, _around(x, taps), weight.permute(0, 2, 3, 1).flatten(1).T)  # (N, C')

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, taps = ctx.saved_tensors
        of_weight = (grad.T @ _around(x, taps)).unflatten(1, (3, 3, -1)).permute(0, 3, 1, 2)  # (C', C, 3, 3)
        # A patch is the neighbor opposite of its neighbor.
        of_x = _around(grad, taps.flip(1)) @ weight.permute(2, 3, 0, 1).flatten(0, 2)  # (N, C)
        return of_x, of_weight, grad.sum(0), None


def _around(x: Tensor, taps: Tensor) -> Tensor:
    """(N, C) to (N, 9 C), zeros where there is no neighbor."""
    return torch.cat([x, x.new_zeros(1, x.shape[1])]).index_select(0, taps.flatten()).view(len(taps), -1)
