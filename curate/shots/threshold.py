"""Fades through black or white by PySceneDetect's ThresholdDetector. The dark frames belong to no shot."""

from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from curate.shots.base import Timeline, Transition, Window
from curate.shots.pyscenedetect import load, times
from curate.shots.weightless import Weightless


class ThresholdConfig(BaseModel):
    """PySceneDetect's ThresholdDetector, with its defaults.

    It cuts once, within the dark frames, where `fade_bias` says. Here all of them are left out, so no bias is needed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["threshold"] = "threshold"
    threshold: int = Field(
        default=12, ge=0, le=255, description="mean of R, G and B, 0-255, below which a frame is dark"
    )
    method: Literal["floor", "ceiling"] = Field(
        default="floor", description="floor finds fades through black; ceiling, through white: means from threshold on"
    )
    min_scene_len_s: float = Field(
        default=0.6, ge=0, description="least time from one fade's end to the next one's, in seconds"
    )
    min_out_length_s: float = Field(default=0.0, ge=0, description="shorter fades are left in the shot; in seconds")

    def build(self) -> "ThresholdDetector":
        return ThresholdDetector(self)


class ThresholdDetector(Weightless):
    """PySceneDetect's own code decides which dark frames separate shots. Those at either end of the file separate
    nothing; they are left out as well, except where they are fewer than `min_out_length_s`. A film that is dark
    throughout fades nowhere: it is one shot."""

    window = Window()
    num_scores = 1

    def __init__(self, config: ThresholdConfig) -> None:
        self._config = config

    def score(self, windows: np.ndarray) -> np.ndarray:
        """`(b, 1, h, w, 3)` to `(b, 1, 1)`: mean of R, G and B, 0-255."""
        import cv2

        return np.array([[[cv2.norm(window[0], cv2.NORM_L1) / window[0].size]] for window in windows])

    def transitions(self, scores: np.ndarray, timeline: Timeline) -> list[Transition]:
        detector, faded_out, fades = self._detector(), 0, list[Transition]()
        for number, (now, score) in enumerate(zip(times(timeline), scores, strict=True)):
            was_out = detector.last_fade["type"] == "out"
            cuts = detector.process_frame(now, score)  # it takes the mean of what it is given
            is_out = detector.last_fade["type"] == "out"
            if is_out and not was_out:
                faded_out = number
            elif was_out and not is_out and (cuts or (faded_out == 0 and self._is_long(0, number, timeline))):
                fades.append(Transition(faded_out, number, "fade"))
        if detector.last_fade["type"] == "out" and faded_out and self._is_long(faded_out, len(scores), timeline):
            fades.append(Transition(faded_out, len(scores), "fade"))
        return fades

    def _is_long(self, first: int, end: int, timeline: Timeline) -> bool:
        edges = [*timeline.pts.tolist(), timeline.end_pts]
        return float((edges[end] - edges[first]) * timeline.time_base) >= self._config.min_out_length_s

    def _detector(self) -> Any:
        base = load("detectors").ThresholdDetector
        return base(
            threshold=self._config.threshold,
            min_scene_len=self._config.min_scene_len_s,
            method=base.Method[self._config.method.upper()],
            min_out_length=self._config.min_out_length_s,
        )
