"""What a sample says of the whole, with an error bar from drawing it again and again (Efron, 1979)."""

import os
from dataclasses import dataclass

import numpy as np

from pipelines.execute.base import ExecuteConfig

SEED = 0
NUM_RESAMPLES = 1000
INTERVAL = (5, 95)
"""Percentiles of the error bar."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A predicted amount with the ends of its 90 % interval."""

    value: float
    low: float
    high: float

    def times(self, factor: float) -> "Estimate":
        return Estimate(value=factor * self.value, low=factor * self.low, high=factor * self.high)


def drawn(rng: np.random.Generator, count: int) -> np.ndarray:
    """(1 + NUM_RESAMPLES, count) indices: each once, then drawn with replacement."""
    return np.concatenate([np.arange(count)[None], rng.integers(count, size=(NUM_RESAMPLES, count))])


def estimated(draws: np.ndarray) -> Estimate:
    """Of (1 + NUM_RESAMPLES,) amounts: the first, and the interval of the others."""
    low, high = np.percentile(draws[1:], INTERVAL)
    return Estimate(value=float(draws[0]), low=float(low), high=float(high))


def num_workers_of(config: ExecuteConfig) -> int:
    if config.executor == "local":
        return 1
    here = config.num_cpus or os.cpu_count() or 1
    return min(here, config.num_workers or here)
