"""Hard cuts by PySceneDetect's AdaptiveDetector."""

from itertools import pairwise
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from curate.shots.base import Timeline, Transition, Window
from curate.shots.pyscenedetect import load


class AdaptiveConfig(BaseModel):
    """PySceneDetect's AdaptiveDetector, with the parameters that were best over BBC, AutoShot and ClipShots in its own
    sweep (mean F1 of 76.3 at a tolerance of one frame)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["adaptive"] = "adaptive"
    threshold: float = Field(
        default=3.5, gt=0, description="a cut's content score over the mean score of the frames around it"
    )
    window_frames: int = Field(default=3, ge=1, description="frames on either side that the mean is taken over")
    min_content: float = Field(
        default=15.0, ge=0, description="least content score of a cut: mean change of hue, saturation and value, 0-255"
    )
    min_scene_len_s: float = Field(default=0.6, ge=0, description="least time between two cuts, in seconds")

    def build(self) -> "AdaptiveDetector":
        return AdaptiveDetector(self)


class AdaptiveDetector:
    """Scores are PySceneDetect's content scores, computed in a third of its time; PySceneDetect's own code decides."""

    window = Window(back=1, stride=24)
    num_scores = 1
    uses_gpu = False

    def __init__(self, config: AdaptiveConfig) -> None:
        self._config = config

    def digest(self, uri: str) -> str:
        return ""

    def setup(self) -> None:
        """There is nothing to load."""

    def score(self, windows: np.ndarray) -> np.ndarray:
        """`(b, 25, h, w, 3)` to `(b, 24, 1)`: mean absolute change of hue, saturation and value, 0-255."""
        import cv2

        scores = np.empty((len(windows), self.window.stride, 1))
        for window, own in zip(windows, scores, strict=True):
            frames = [cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV) for rgb in window]
            # The mean over the three channels of the mean absolute difference in each.
            own[:, 0] = [cv2.norm(one, two, cv2.NORM_L1) / two.size for one, two in pairwise(frames)]
        return scores

    def transitions(self, scores: np.ndarray, timeline: Timeline) -> list[Transition]:
        common = load("common")
        detector = _scored_detector(self._config)
        no_frame = np.empty(0)
        numbers = {int(time): number for number, time in enumerate(timeline.pts)}
        start, cuts = int(timeline.pts[0]), list[int]()
        for time, score in zip(timeline.pts.tolist(), scores[:, 0].tolist(), strict=True):
            detector.next_score = score
            # PySceneDetect's times start at zero.
            now = common.FrameTimecode(
                common.Timecode(pts=time - start, time_base=timeline.time_base), fps=timeline.fps
            )
            cuts += [numbers[cut.pts + start] for cut in detector.process_frame(now, no_frame)]
        return [Transition(cut, cut) for cut in cuts]


def _scored_detector(config: AdaptiveConfig) -> Any:
    base: Any = load("detectors").AdaptiveDetector

    class ScoredDetector(base):
        """Takes each frame's score as given."""

        next_score = 0.0

        def _calculate_frame_score(self, timecode: object, frame_img: object) -> float:
            return self.next_score

    return ScoredDetector(
        adaptive_threshold=config.threshold,
        min_scene_len=config.min_scene_len_s,
        window_width=config.window_frames,
        min_content_val=config.min_content,
    )
