"""Hard cuts by PySceneDetect's HashDetector: a perceptual hash of the picture changes."""

from itertools import pairwise
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from curate.shots.base import Timeline, Transition, Window
from curate.shots.pyscenedetect import load, spaced_cuts
from curate.shots.weightless import Weightless

MAX_SIDE_PX = 1024


class HashConfig(BaseModel):
    """PySceneDetect's HashDetector, with its defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["hash"] = "hash"
    threshold: float = Field(default=0.35, ge=0, le=1, description="least share of a hash's bits that change at a cut")
    size: int = Field(default=8, ge=2, le=256, description="a hash has size x size bits: the lowest frequencies")
    lowpass: int = Field(default=2, ge=1, le=256, description="the picture is scaled to lowpass x size pixels a side")
    min_scene_len_s: float = Field(default=0.6, ge=0, description="least time between two cuts, in seconds")

    @model_validator(mode="after")
    def _picture_can_be_transformed(self) -> "HashConfig":
        if self.size * self.lowpass % 2 or self.size * self.lowpass > MAX_SIDE_PX:
            raise ValueError(
                f"size x lowpass is {self.size * self.lowpass}, expected an even number of at most {MAX_SIDE_PX}: the "
                "side of the picture that is transformed"
            )
        return self

    def build(self) -> "HashDetector":
        return HashDetector(self)


class HashDetector(Weightless):
    """Hashes are made by PySceneDetect's own code."""

    window = Window(back=1, stride=24)
    num_scores = 1

    def __init__(self, config: HashConfig) -> None:
        self._config = config

    def score(self, windows: np.ndarray) -> np.ndarray:
        """`(b, 25, h, w, 3)` to `(b, 24, 1)`: share of the bits that differ from the frame before, 0-1."""
        import cv2

        hashed = load("detectors").HashDetector.hash_frame
        size, lowpass = self._config.size, self._config.lowpass
        scores = np.empty((len(windows), self.window.stride, 1))
        for window, own in zip(windows, scores, strict=True):
            hashes = [hashed(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), size, lowpass) for rgb in window]
            own[:, 0] = [np.count_nonzero(one != two) / size**2 for one, two in pairwise(hashes)]
        return scores

    def transitions(self, scores: np.ndarray, timeline: Timeline) -> list[Transition]:
        return spaced_cuts(scores[:, 0] >= self._config.threshold, timeline, self._config.min_scene_len_s)
