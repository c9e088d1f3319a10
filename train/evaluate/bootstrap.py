"""Intervals of confidence by the bootstrap (Efron & Tibshirani 1993)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """An estimate, and where it may be."""

    value: float
    low: float
    high: float

    @property
    def ends(self) -> dict[str, float]:
        return {"low": self.low, "high": self.high}


def bootstrap(
    statistic: Callable[..., float],
    sizes: Sequence[int],
    *,
    num_draws: int,
    confidence: float,
    seed: int,
) -> Interval:
    """The interval of a statistic of one or several sets.

    Args:
        statistic: of the numbers of samples drawn from each set, (n,) int64, with repetition.
        sizes: of the sets.
        num_draws: of samples.
        confidence: share of such intervals that hold the true value, about.
        seed: of the draws.

    A statistic that repetition shifts, as a Fréchet distance, would have its interval beside the estimate: the
    quantiles are those of the draws less their own mean, around the estimate.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = [
        statistic(*(torch.randint(size, (size,), generator=generator) for size in sizes)) for _ in range(num_draws)
    ]
    found = torch.tensor(drawn, dtype=torch.float64)
    tail = (1 - confidence) / 2
    low, high = torch.quantile(found - found.mean(), torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    middle = statistic(*map(torch.arange, sizes))
    return Interval(value=middle, low=middle + low, high=middle + high)


def bootstrap_of_mean(values: Tensor, *, num_draws: int, confidence: float, seed: int) -> Interval:
    """Of the mean of (n,)."""
    x = values.double()
    return bootstrap(
        lambda rows: float(x[rows].mean()), [len(x)], num_draws=num_draws, confidence=confidence, seed=seed
    )
