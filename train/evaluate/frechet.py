"""The Fréchet distance of two sets of features (Heusel et al. 2017, FID; Unterthiner et al. 2018, FVD).

The estimate is biased: sets of the same distribution have a distance above 0, which falls about as 1/n and depends on
the features (Chong & Forsyth 2020). Distances are comparable only at equal numbers of samples and equal features.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

NUM_SIZES = 8
"""Sizes of subsets that a line is fitted to."""


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
        mean, root = _moments(features)
        return cls(mean=mean, covariance=root.T @ root)


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


def frechet_of_sets(one: Tensor, other: Tensor) -> float:
    """The distance of the Gaussians of (N, D) and (M, D), without a matrix of D x D.

    With S₁ = A'A and S₂ = B'B the eigenvalues of S₁ S₂ are the squared singular values of AB', which is (N, M): much
    smaller where samples are few.

    Raises:
        ValueError: as `Gaussian.of`.
    """
    (mean, a), (other_mean, b) = _moments(one), _moments(other)
    if min(len(a), len(b)) > a.shape[1]:
        return frechet_distance(Gaussian(mean=mean, covariance=a.T @ a), Gaussian(mean=other_mean, covariance=b.T @ b))
    of_spreads = a.square().sum() + b.square().sum() - 2 * torch.linalg.svdvals(a @ b.T).sum()
    return max(0.0, float((mean - other_mean).square().sum() + of_spreads))


def frechet_infinity(one: Tensor, other: Tensor, generator: torch.Generator) -> float:
    """The distance extrapolated to sets without end (Chong & Forsyth 2020, section 4: FID∞), at or below 0 for equal
    distributions.

    A line in 1/n is fitted to the distances of random subsets of n samples of both sets, from a quarter of the smaller
    set to all of it. The distance is about linear in 1/n where n is well above the number of features; with fewer
    samples the line removes a part of the bias.
    """
    most = min(len(one), len(other))
    sizes = torch.linspace(max(2, most // 4), most, NUM_SIZES).round().long().unique().tolist()
    found = []
    for size in sizes:
        repeats = min(NUM_SIZES, most // size)
        draws = [[torch.randperm(len(x), generator=generator)[:size] for x in (one, other)] for _ in range(repeats)]
        found.append(sum(frechet_of_sets(one[i], other[j]) for i, j in draws) / repeats)
    design = torch.tensor([[1.0, 1 / size] for size in sizes], dtype=torch.float64)
    line = torch.linalg.lstsq(design, torch.tensor(found, dtype=torch.float64)[:, None], driver="gelsd").solution
    return float(line[0, 0])


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,), and A (N, D) with A'A = covariance."""
    features = features.double()
    if len(features) < 2:
        raise ValueError(f"a Fréchet distance: got {len(features)} samples, expected at least 2")
    if not features.isfinite().all():
        raise ValueError("a Fréchet distance: got features that are not finite")
    mean = features.mean(0)
    return mean, (features - mean) / (len(features) - 1) ** 0.5


def _root(matrix: Tensor) -> Tensor:
    """The square root of a symmetric matrix without negative eigenvalues."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T
