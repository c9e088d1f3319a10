"""Hard cuts by PySceneDetect's ContentDetector: the picture's colors change by more than a threshold."""

from itertools import pairwise
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from curate.shots.base import Timeline, Transition, Window
from curate.shots.pyscenedetect import cuts_by_content, load
from curate.shots.weightless import Weightless

CONTENT_WINDOW = Window(back=1, stride=24)


class ContentWeights(BaseModel):
    """What share each change has in the score. Only the defaults are computed by the faster code."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hue: float = Field(default=1.0, ge=0, description="weight of the mean change of hue")
    saturation: float = Field(default=1.0, ge=0, description="weight of the mean change of saturation")
    value: float = Field(default=1.0, ge=0, description="weight of the mean change of value (brightness)")
    edges: float = Field(default=0.0, ge=0, description="weight of the mean change of edges")

    @model_validator(mode="after")
    def _something_counts(self) -> "ContentWeights":
        if not any((self.hue, self.saturation, self.value, self.edges)):
            raise ValueError("all weights are 0; at least one must be greater")
        return self


class ContentConfig(BaseModel):
    """PySceneDetect's ContentDetector, with its defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["content"] = "content"
    threshold: float = Field(
        default=27.0, ge=0, le=255, description="least score of a cut: mean change of hue, saturation and value, 0-255"
    )
    min_scene_len_s: float = Field(default=0.6, ge=0, description="least time between two cuts, in seconds")
    filter_mode: Literal["merge", "suppress"] = Field(
        default="merge",
        description="of cuts closer than min_scene_len_s, merge keeps the last one, suppress the first one",
    )
    weights: ContentWeights = Field(default=ContentWeights(), description="what the score is made of")

    def build(self) -> "ContentDetector":
        return ContentDetector(self)


class ContentDetector(Weightless):
    """PySceneDetect's own code decides."""

    window = CONTENT_WINDOW
    num_scores = 1

    def __init__(self, config: ContentConfig) -> None:
        self._config = config

    def score(self, windows: np.ndarray) -> np.ndarray:
        """`(b, 25, h, w, 3)` to `(b, 24, 1)`, 0-255."""
        if self._config.weights == ContentWeights():
            return content_scores(windows)
        return np.stack([_weighted_scores(window, self._config.weights) for window in windows])[:, :, None]

    def transitions(self, scores: np.ndarray, timeline: Timeline) -> list[Transition]:
        return cuts_by_content(
            "ContentDetector",
            scores,
            timeline,
            threshold=self._config.threshold,
            min_scene_len=self._config.min_scene_len_s,
            filter_mode=load("detector").FlashFilter.Mode[self._config.filter_mode.upper()],
        )


def content_scores(windows: np.ndarray) -> np.ndarray:
    """PySceneDetect's content scores with its default weights, in a third of its time.

    Args:
        windows: `(b, 1 + n, h, w, 3)` uint8 RGB.

    Returns:
        `(b, n, 1)`: mean absolute change of hue, saturation and value from each frame's predecessor, 0-255.
    """
    import cv2

    scores = np.empty((len(windows), windows.shape[1] - 1, 1))
    for window, own in zip(windows, scores, strict=True):
        frames = [cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV) for rgb in window]
        # The mean over the three channels of the mean absolute difference in each.
        own[:, 0] = [cv2.norm(one, two, cv2.NORM_L1) / two.size for one, two in pairwise(frames)]
    return scores


def _weighted_scores(window: np.ndarray, weights: ContentWeights) -> list[float]:
    """By PySceneDetect's own code: `(1 + n, h, w, 3)` to n scores."""
    import cv2

    base = load("detectors").ContentDetector
    detector = base(weights=base.Components(weights.hue, weights.saturation, weights.value, weights.edges))
    scores = [detector._calculate_frame_score(None, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)) for rgb in window]
    return scores[1:]
