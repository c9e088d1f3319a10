"""Black frames between shots: fades and dips to black."""

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from curate.shots.base import Timeline, Transition, Window
from curate.shots.weightless import Weightless


class BlackConfig(BaseModel):
    """Shots end where the picture is black."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["black"] = "black"
    max_luma: float = Field(8.0, ge=0, le=255, description="mean luma up to which a frame is black, 0-255")

    def build(self) -> "BlackDetector":
        return BlackDetector(self)


class BlackDetector(Weightless):
    window = Window(stride=16, size_px=(27, 48))
    num_scores = 1

    def __init__(self, config: BlackConfig) -> None:
        self._config = config

    def score(self, windows: np.ndarray) -> np.ndarray:
        return windows.mean(axis=(2, 3, 4))[:, :, None]

    def transitions(self, scores: np.ndarray, timeline: Timeline) -> list[Transition]:
        edges = np.diff(np.concatenate([[0], scores[:, 0] <= self._config.max_luma, [0]]).astype(int))
        first, end = np.flatnonzero(edges > 0).tolist(), np.flatnonzero(edges < 0).tolist()
        return [Transition(*frames, "fade") for frames in zip(first, end, strict=True)]
