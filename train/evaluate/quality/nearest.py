"""Memorization: is a generated video a training clip? By features, beside what held-out clips have by chance.

As Webster et al. 2021 and Somepalli et al. 2023 ask of pictures. A distance alone says little; the same clips that the
model has not seen have nearest training clips, too, and theirs is the scale.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

QUANTILE = 0.05


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Nearest:
    """Of N videos: numbers of their nearest training clips, (N,) int64, and the distances, (N,) float64 from 0 to 2.

    A distance is 1 less the cosine of features that are centered by the training clips' mean.
    """

    clip: Tensor
    distance: Tensor


def nearest(videos: Tensor, training: Tensor) -> Nearest:
    """Of features (N, D) among (M, D), M at least 1."""
    center = training.double().mean(0)
    x, y = (F.normalize(features.double() - center, dim=1) for features in (videos, training))
    found = (1 - x @ y.T).clamp(min=0).min(1)
    return Nearest(clip=found.indices, distance=found.values)


def suspects(generated: Nearest, held_out: Nearest) -> Tensor:
    """(N,) bool: nearer to a training clip than all but `QUANTILE` of the held-out clips are."""
    return generated.distance < torch.quantile(held_out.distance, QUANTILE)
