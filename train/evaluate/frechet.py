"""The Fréchet distance of two sets of features (Heusel et al. 2017, FID; Unterthiner et al. 2018, FVD).

The estimate is biased: sets of the same distribution have a distance above 0, which falls about as 1/n and depends on
the features (Chong & Forsyth 2020). Distances are comparable only at equal numbers of samples and equal features.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Gaussian:
    """Moments of features: mean (D,) and covariance (D, D), float64."""

    mean: Tensor
    covariance: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Self:
        """Of (N, D), N at least 2; the covariance is divided by N - 1.

        Raises:
            ValueError: there are fewer than two samples, or a feature is not finite.
        """
        features = features.double()
        if len(features) < 2:
            raise ValueError(f"a Fréchet distance: got {len(features)} samples, expected at least 2")
        if not features.isfinite().all():
            raise ValueError("a Fréchet distance: got features that are not finite")
        mean = features.mean(0)
        centered = features - mean
        return cls(mean=mean, covariance=centered.T @ centered / (len(features) - 1))


def frechet_distance(one: Gaussian, other: Gaussian) -> float:
    """|m₁ - m₂|² + tr(S₁ + S₂ - 2 (S₁ S₂)^½), at least 0.

    The trace of the root is that of (S₁^½ S₂ S₁^½)^½, which is symmetric: its eigenvalues are real, also where a
    covariance is singular, as with fewer samples than features.
    """
    root = _root(one.covariance)
    product = root @ other.covariance @ root
    eigenvalues = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0)
    of_means = (one.mean - other.mean).square().sum()
    of_spreads = one.covariance.trace() + other.covariance.trace() - 2 * eigenvalues.sqrt().sum()
    return max(0.0, float(of_means + of_spreads))


def _root(matrix: Tensor) -> Tensor:
    """The square root of a symmetric matrix without negative eigenvalues."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T
