"""A gated MLP with a depthwise convolution within frames (Mix-FFN of Sana, Xie et al. 2024, §2.2).

Letters: N tokens of a pack, D width, E hidden features.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NUM_TAPS = 9
OWN = NUM_TAPS // 2
"""The tap of the token itself."""


class GatedConvolution(nn.Module):
    """Up to 2 E features, each convolved over the 3 × 3 patches around a patch; half of them gate the others."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.expand = nn.Linear(width, 2 * hidden)
        self.taps = nn.Parameter(torch.empty(2 * hidden, NUM_TAPS))
        self.taps_bias = nn.Parameter(torch.zeros(2 * hidden))
        self.out = nn.Linear(hidden, width, bias=False)
        nn.init.uniform_(self.taps, -1 / 3, 1 / 3)  # as torch draws a convolution of nine taps

    def forward(self, x: Tensor, neighbors: Tensor) -> Tensor:
        """(N, D), and of each token the nine around it, (N, 9), to (N, D)."""
        h = depthwise(F.silu(self.expand(x)), self.taps, self.taps_bias, neighbors)  # (N, 2 E)
        values, gates = h.chunk(2, dim=-1)
        return self.out(values * F.silu(gates))


def depthwise(x: Tensor, weight: Tensor, bias: Tensor, neighbors: Tensor) -> Tensor:
    """(N, F) to (N, F) in its type, by weights (F, 9), (F,) and `neighbors` (N, 9), of which N is none."""
    out: Tensor = _Depthwise.apply(x, weight, bias, neighbors)
    return out


class _Depthwise(torch.autograd.Function):
    """Sums in float32. What is gathered is nine times the input, and is gathered again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, neighbors: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, neighbors)
        return _convolved(x, weight, neighbors).add_(bias).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, neighbors = ctx.saved_tensors
        upstream = grad.float()
        of_x = _convolved(grad, weight.flip(1), neighbors).to(x.dtype)  # a patch is the opposite neighbor of its own
        padded = _padded(x)
        of_taps = [(upstream * padded.index_select(0, neighbors[:, tap])).sum(0) for tap in range(NUM_TAPS)]
        return of_x, torch.stack(of_taps, dim=1).to(weight.dtype), upstream.sum(0).to(weight.dtype), None


def _convolved(x: Tensor, weight: Tensor, neighbors: Tensor) -> Tensor:
    """(N, F) float32."""
    padded, taps = _padded(x), weight.float()
    out = x.float() * taps[:, OWN]
    for tap in range(NUM_TAPS):
        if tap != OWN:
            out.addcmul_(padded.index_select(0, neighbors[:, tap]).float(), taps[:, tap])
    return out


def _padded(x: Tensor) -> Tensor:
    """(N, F) with a row of zeros, which is the neighbor of tokens that have none: (N + 1, F)."""
    return torch.cat([x, x.new_zeros(1, x.shape[1])])
