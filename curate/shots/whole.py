"""No detection: the file is one shot. For footage that was split before."""

from fractions import Fraction
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict


class WholeConfig(BaseModel):
    """The whole file is one shot."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["whole"] = "whole"

    def build(self) -> "WholeDetector":
        return WholeDetector()


class WholeDetector:
    def measure(self, rgb: np.ndarray) -> float:
        return 0.0

    def cuts(self, scores: np.ndarray, pts: np.ndarray, time_base: Fraction, fps: Fraction) -> list[int]:
        return []
