"""The kernel distance of two sets of features: KID of Bińkowski et al. 2018, for a few samples.

It is the squared maximum mean discrepancy under the kernel (x·y / D + 1)³. Its estimate is unbiased at any number of
samples, so it is 0 on average for equal distributions, and below 0 about half of the time.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Kernels:
    """The kernel within and between two sets: (N, N), (M, M) and (N, M) float64."""

    within: Tensor
    within_other: Tensor
    between: Tensor

    @classmethod
    def of(cls, one: Tensor, other: Tensor) -> Self:
        """Of features (N, D) and (M, D)."""
        x, y = one.double(), other.double()
        return cls(within=_kernel(x, x), within_other=_kernel(y, y), between=_kernel(x, y))

    def distance(self, rows: Tensor | None = None, others: Tensor | None = None) -> float:
        """Of all samples, or of those with these numbers, which may come several times, as in a bootstrap: a pair of a
        sample with itself never counts.

        Raises:
            ValueError: a set has fewer than two different samples.
        """
        rows = torch.arange(len(self.within)) if rows is None else rows
        others = torch.arange(len(self.within_other)) if others is None else others
        between = self.between[rows][:, others].mean()
        return float(_mean_of_pairs(self.within, rows) + _mean_of_pairs(self.within_other, others) - 2 * between)


def kernel_distance(one: Tensor, other: Tensor) -> float:
    """Of features (N, D) and (M, D), N and M at least 2."""
    return Kernels.of(one, other).distance()


def _mean_of_pairs(kernel: Tensor, rows: Tensor) -> Tensor:
    differs = rows[:, None] != rows[None]
    if not differs.any():
        raise ValueError(f"a kernel distance: got {len(rows.unique())} samples, expected at least 2")
    return kernel[rows][:, rows][differs].mean()


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3
