"""Hard cuts by PySceneDetect's HistogramDetector: the histogram of luma changes."""

from itertools import pairwise
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from curate.shots.base import Timeline, Transition, Window
from curate.shots.pyscenedetect import load, spaced_cuts
from curate.shots.weightless import Weightless


class HistogramConfig(BaseModel):
    """PySceneDetect's HistogramDetector, with its defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["histogram"] = "histogram"
    threshold: float = Field(
        default=0.20, ge=0, le=1, description="a cut's histograms correlate by at most 1 less this; 0-1"
    )
    bins: int = Field(default=128, ge=1, le=256, description="bins of a histogram")
    min_scene_len_s: float = Field(default=0.6, ge=0, description="least time between two cuts, in seconds")

    def build(self) -> "HistogramDetector":
        return HistogramDetector(self)


class HistogramDetector(Weightless):
    """Histograms are made by PySceneDetect's own code."""

    window = Window(back=1, stride=24)
    num_scores = 1

    def __init__(self, config: HistogramConfig) -> None:
        self._config = config

    def score(self, windows: np.ndarray) -> np.ndarray:
        """`(b, 25, h, w, 3)` to `(b, 24, 1)`: correlation with the histogram of the frame before, -1 to 1."""
        import cv2

        histogram = load("detectors").HistogramDetector.calculate_histogram
        scores = np.empty((len(windows), self.window.stride, 1))
        for window, own in zip(windows, scores, strict=True):
            frames = [histogram(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), bins=self._config.bins) for rgb in window]
            own[:, 0] = [cv2.compareHist(one, two, cv2.HISTCMP_CORREL) for one, two in pairwise(frames)]
        return scores

    def transitions(self, scores: np.ndarray, timeline: Timeline) -> list[Transition]:
        is_cut = scores[:, 0] <= 1.0 - self._config.threshold
        return spaced_cuts(is_cut, timeline, self._config.min_scene_len_s)
