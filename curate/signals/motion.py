"""Motion: how fast the average point of the picture moves."""

import math
from typing import ClassVar

import numpy as np

from curate.signals.signal import ScanFrame

FLOW_SHORT_SIDE_PX = 56
"""Least short side of the flow. Below, OpenCV leaves its coarse scales out, and takes twenty times as long."""

PAIRS_PER_SECOND = 8


class MotionSignal:
    """`motion`: mean length of the optical flow, in short sides of the picture per second.

    DIS flow (Kroeger et al. 2016, arXiv 1603.03590; OpenCV's, preset "ultrafast") between frames that lie about 1/8 s
    apart, at a short side of 72 px. It depends neither on the encoder nor, but for accuracy, on the file's
    resolution and frame rate. 0.01 is a locked-off camera on a scene that hardly stirs, 0.3 a lively shot. Pans of
    0.02 to 0.6 short sides between two frames are measured within 10 %; noise alone gives about 0.01.

    Pairs do not cross a cut: the flow of a pair counts for a clip that holds both its frames.
    """

    names: ClassVar[tuple[str, ...]] = ("motion",)
    num_values: ClassVar[int] = 2  # speed, and when the pair's earlier frame is shown; NaN where no pair ends

    def __init__(self) -> None:
        import cv2

        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._earlier: tuple[float, np.ndarray] | None = None
        self._tick: int | None = None

    def measure(self, frame: ScanFrame) -> tuple[float, ...]:
        import cv2

        # A grid in absolute time, so that where the pass began does not matter.
        tick = math.floor(frame.shown_s * PAIRS_PER_SECOND)
        if tick == self._tick:
            return np.nan, np.nan
        self._tick = tick
        small = _small(frame.luma)
        earlier, self._earlier = self._earlier, (frame.shown_s, small)
        if earlier is None or earlier[1].shape != small.shape:
            return np.nan, np.nan
        # The flow is computed in as many stripes as there are threads, and depends on them.
        if cv2.getNumThreads() != 1:
            cv2.setNumThreads(1)
        flow = self._flow.calc(earlier[1], small, None)  # type: ignore[call-overload]
        length = float(cv2.magnitude(flow[..., 0], flow[..., 1]).mean())
        return length / min(small.shape) / (frame.shown_s - earlier[0]), earlier[0]

    @staticmethod
    def summarize(values: np.ndarray, starts_s: np.ndarray, end_s: float) -> dict[str, float]:
        inside = values[:, 1] >= starts_s[0] - 1e-9  # false for NaN
        return {"motion": float(values[inside, 0].mean()) if inside.any() else 0.0}


def _small(luma: np.ndarray) -> np.ndarray:
    """The picture with a short side of 56 to 112 px, by averaging whole blocks, which is the fastest way."""
    import cv2

    height, width = luma.shape
    block = max(1, min(height, width) // FLOW_SHORT_SIDE_PX)
    whole_blocks = luma[: height // block * block, : width // block * block]
    size = (width // block, height // block)
    if min(size) < FLOW_SHORT_SIDE_PX:
        scale = FLOW_SHORT_SIDE_PX / min(size)
        size = (max(FLOW_SHORT_SIDE_PX, round(width * scale)), max(FLOW_SHORT_SIDE_PX, round(height * scale)))
    return np.asarray(cv2.resize(whole_blocks, size, interpolation=cv2.INTER_AREA))
