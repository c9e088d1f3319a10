"""Temporal super-resolution: a sample is conditioned on the same pictures at a lower rate.

A run on latents of several rates interpolates at each of them. So key frames are interpolated twice by the same model
(Blattmann et al. 2023, "Align your Latents", §3.2).
"""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from train.data.conditioning.base import ConditioningSettings, Extent

SAME_RATE = 0.01
"""Rates such as 23.976 and 12 count as 2 to 1."""


class Temporal(ConditioningSettings):
    """The latent of the clip at the sample's rate over `factor`, of the same size and time. Images have none."""

    remedy: ClassVar[str] = (
        "encode.fps, at a fraction of the rate of the latents that are trained on, and encode.max_frames, at which "
        "both show the same seconds of a clip"
    )

    kind: Literal["temporal"] = "temporal"
    factor: int = Field(2, ge=2, description="frames per second of a sample over those of its condition")

    @property
    def frame_step(self) -> int:
        return self.factor

    @property
    def side_factor(self) -> float:
        return 1.0

    def distance(self, own: Extent, other: Extent) -> np.ndarray:
        same = (own.rows == other.rows) & (own.columns == other.columns) & (own.frames > 1)
        same &= other.frames == 1 + (own.frames - 1) // self.factor
        same &= np.abs(own.fps - self.factor * other.fps) <= SAME_RATE * own.fps
        same &= np.abs(own.start_s - other.start_s) * own.fps < 0.5
        return np.where(same, 0.0, np.inf)
