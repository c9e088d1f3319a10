"""No detection: the file is one shot. For footage that is already split."""

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from curate.shots.base import Timeline, Transition, Window


class WholeConfig(BaseModel):
    """The whole file is one shot."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["whole"] = "whole"

    def build(self) -> "WholeDetector":
        return WholeDetector()


class WholeDetector:
    window = Window()
    num_scores = 0
    uses_gpu = False

    def digest(self, uri: str) -> str:
        return ""

    def setup(self) -> None:
        """There is nothing to load."""

    def score(self, windows: np.ndarray) -> np.ndarray:
        """No scores: `(b, 1, 0)`."""
        return np.zeros((len(windows), 1, 0))

    def transitions(self, scores: np.ndarray, timeline: Timeline) -> list[Transition]:
        return []
