"""Spatial super-resolution: a sample is conditioned on the same frames at fewer pixels."""

import math
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from train.data.conditioning.base import ConditioningSettings, Extent

TOLERANCE = math.log(2) / 2
"""Sides are multiples of pixels, and small clips are not enlarged: a factor of 2 takes 1.42 to 2.82."""


class Spatial(ConditioningSettings):
    """Of what is stored of the clip, the latent whose sides are nearest to the sample's over `factor`."""

    remedy: ClassVar[str] = "encode.max_area_px, at a fraction of that of the latents that are trained on"

    kind: Literal["spatial"] = "spatial"
    factor: float = Field(2.0, gt=1, description="sides of a sample over those of its condition, about")

    @property
    def frame_step(self) -> int:
        return 1

    @property
    def side_factor(self) -> float:
        return self.factor

    def distance(self, own: Extent, other: Extent) -> np.ndarray:
        ratio = np.sqrt(own.rows * own.columns / (other.rows * other.columns))
        distance = np.abs(np.log(ratio / self.factor))
        same = (own.frames == other.frames) & np.isclose(own.fps, other.fps)
        same &= np.abs(own.start_s - other.start_s) * own.fps < 0.5
        return np.where(same & (ratio > 1) & (distance <= TOLERANCE), distance, np.inf)
