"""How many tokens of a sample are dropped (NaViT, Dehghani et al. 2023, §2.1 and §3.3)."""

import math
from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

AROUND_A_MEAN = ("truncated_normal", "beta")
NUM_POINTS = 4096
"""Of the distribution function of Beta, which is summed up."""
MEAN_RANGE = (0.001, 0.999)


class TokenDropConfig(BaseModel):
    """Continuous token dropping: each sample of each epoch has its own rate, which may depend on its size and on the
    epoch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    distribution: Literal["none", "constant", "uniform", "truncated_normal", "beta"] = "none"
    low: float = Field(0.0, ge=0, lt=1, description="least share that is dropped; of `constant`: the share")
    high: float = Field(0.9, ge=0, lt=1, description="largest share that is dropped")
    mean: float = Field(
        0.5, description="of `truncated_normal`, before it is cut at low and high; of `beta`, between low and high"
    )
    std: float = Field(0.2, gt=0, description="of `truncated_normal` and `beta`, about the mean")
    per_doubling: float = Field(
        0.0, description="added to the mean for each doubling of a sample's tokens above reference_tokens"
    )
    reference_tokens: int = Field(256, ge=1, description="tokens of a sample whose rates have the mean")
    final: float = Field(1.0, ge=0, description="factor of the rates from final_epoch on; 1: they stay as they are")
    final_epoch: int = Field(0, ge=0, description="until then the factor goes evenly from 1 to `final`")

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.distribution in ("uniform", *AROUND_A_MEAN) and self.low > self.high:
            raise ValueError(f"got low {self.low} above high {self.high}; exchange them")
        if self.per_doubling and self.distribution not in AROUND_A_MEAN:
            expected = " or ".join(AROUND_A_MEAN)
            raise ValueError(f"per_doubling moves a mean, and {self.distribution} has none; take {expected}")
        if self.final > 1 and self.final * (self.low if self.distribution == "constant" else self.high) >= 1:
            raise ValueError(f"final {self.final:g}: expected a factor that leaves all rates below 1")
        if self.distribution == "beta":
            low, high = self.low, self.high
            if not low < self.mean < high or self.std**2 >= (self.mean - low) * (high - self.mean):
                raise ValueError(
                    f"got mean {self.mean:g} and std {self.std:g} of beta between {low:g} and {high:g}; expected a "
                    "mean between them, and a deviation below the root of (mean - low) (high - mean)"
                )
        return self

    def rates(self, draws: np.ndarray, num_tokens: np.ndarray, epoch: int) -> np.ndarray:
        """Shares that are dropped, (N,) float64.

        Args:
            draws: (N,) in [0, 1).
            num_tokens: (N,) of the whole samples.
            epoch: From 0.
        """
        progress = 1.0 if epoch >= self.final_epoch else epoch / self.final_epoch
        return (1 + progress * (self.final - 1)) * self._rates(draws, num_tokens)

    def _rates(self, draws: np.ndarray, num_tokens: np.ndarray) -> np.ndarray:
        match self.distribution:
            case "none":
                return np.zeros(len(draws))
            case "constant":
                return np.full(len(draws), self.low)
            case "uniform":
                return self.low + (self.high - self.low) * draws
        means = self.mean + self.per_doubling * np.log2(num_tokens / self.reference_tokens)
        quantiles = self._of_beta if self.distribution == "beta" else self._of_normal
        if not self.per_doubling:
            return quantiles(draws, self.mean)
        rates = np.empty(len(draws))
        for mean in np.unique(means):  # samples have few sizes
            rates[means == mean] = quantiles(draws[means == mean], float(mean))
        return rates

    def _of_normal(self, draws: np.ndarray, mean: float) -> np.ndarray:
        """Quantiles of a normal distribution, cut at low and high."""
        import torch

        ends = torch.tensor([(self.low - mean) / self.std, (self.high - mean) / self.std]).double()
        below, above = torch.special.ndtr(ends).tolist()
        normal = torch.special.ndtri(torch.from_numpy(below + (above - below) * draws)).numpy()
        return np.clip(mean + self.std * normal, self.low, self.high)

    def _of_beta(self, draws: np.ndarray, mean: float) -> np.ndarray:
        """Quantiles of Beta(a, b) between low and high; a + b is that of `mean` and `std` at any mean."""
        span = self.high - self.low
        at, deviation = (self.mean - self.low) / span, self.std / span
        total = at * (1 - at) / deviation**2 - 1  # a + b
        share = float(np.clip((mean - self.low) / span, *MEAN_RANGE))
        a, b = share * total, (1 - share) * total
        # x = sin² θ makes the density bounded near 0 and 1 where a and b are at least 1/2.
        theta = (np.arange(NUM_POINTS) + 0.5) * (math.pi / 2 / NUM_POINTS)
        log_density = (2 * a - 1) * np.log(np.sin(theta)) + (2 * b - 1) * np.log(np.cos(theta))
        mass = np.cumsum(np.exp(log_density - log_density.max()))
        edges = np.sin(np.arange(NUM_POINTS + 1) * (math.pi / 2 / NUM_POINTS)) ** 2
        return self.low + span * np.interp(draws, np.concatenate([[0.0], mass / mass[-1]]), edges)
