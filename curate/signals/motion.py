"""Motion: the mean speed of the optical flow, and how much of it the camera explains."""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import ClassVar

import numpy as np

from curate.rules import Column, Rule
from curate.signals.base import ScanFrame

FLOW_SHORT_SIDE_PX = 56
"""Least short side of the flow. Below, OpenCV leaves its coarse scales out, and takes twenty times as long."""

PAIRS_PER_SECOND = 8

FIT_STRIDE = 6
"""Every sixth point of the flow, which is hardly finer, goes into the fit of the camera's motion."""

NUM_FITS = 2


class MotionSignal:
    """`motion`: mean length of the optical flow, in short sides of the frame per second. `camera_motion`: mean length
    of the affine field (pan, zoom, roll, shear) that most of the frame follows. `local_motion`: mean length of the
    residual, which objects cause.

    DIS flow (Kroeger et al. 2016, arXiv 1603.03590; OpenCV's, preset "ultrafast") between frames about 1/8 s
    apart, at a short side of 72 px. It does not depend on the encoder; resolution and frame rate of the file
    change its accuracy only. 0.01 is a locked-off camera on a scene that hardly stirs, 0.3 a lively shot. Pans of
    0.02 to 0.6 short sides between two frames are measured within 10 %; noise alone gives about 0.01.

    The field is fitted to the half of the points that follow it best (least trimmed squares, by two concentration
    steps from the median flow: Rousseeuw and Van Driessen 2006). An object that fills more than half of the frame
    counts as the camera's motion. A camera that moves into the depth of a scene gives a field that is affine in part.

    Pairs do not cross a cut: the flow of a pair counts for a clip that holds both its frames.
    """

    columns: ClassVar[Mapping[str, Column]] = {
        "motion": Column(
            description="mean optical flow, short sides per second",
            range=(0, math.inf),
            default=Rule(min=0.002),
            for_images=False,
        ),
        "camera_motion": Column(
            description="the part of motion that is the camera's, same unit",
            range=(0, math.inf),
            for_images=False,
        ),
        "local_motion": Column(
            description="the part of motion that is not the camera's, same unit",
            range=(0, math.inf),
            for_images=False,
        ),
    }
    num_values: ClassVar[int] = 4  # the three, and when the pair's earlier frame is shown; NaN where no pair ends

    def __init__(self) -> None:
        import cv2

        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._earlier: tuple[float, np.ndarray] | None = None
        self._tick: int | None = None

    def measure(self, frame: ScanFrame) -> tuple[float, ...]:
        import cv2

        # A grid in absolute time: the start of the pass then does not matter.
        tick = math.floor(frame.shown_s * PAIRS_PER_SECOND)
        if tick == self._tick:
            return (np.nan,) * 4
        self._tick = tick
        small = _small(frame.luma)
        earlier, self._earlier = self._earlier, (frame.shown_s, small)
        if earlier is None or earlier[1].shape != small.shape:
            return (np.nan,) * 4
        # The flow is computed in as many stripes as there are threads, and depends on them.
        if cv2.getNumThreads() != 1:
            cv2.setNumThreads(1)
        flow = self._flow.calc(earlier[1], small, None)  # type: ignore[call-overload]
        speeds = (_mean_length(flow), *_camera_and_rest(flow))
        per_second = 1 / min(small.shape) / (frame.shown_s - earlier[0])
        return *(speed * per_second for speed in speeds), earlier[0]

    @staticmethod
    def summarize(values: np.ndarray, starts_s: np.ndarray, end_s: float) -> dict[str, float]:
        inside = values[:, 3] >= starts_s[0] - 1e-9  # false for NaN
        speeds = values[inside, :3].mean(axis=0).tolist() if inside.any() else [0.0] * 3
        return dict(zip(MotionSignal.columns, speeds, strict=True))


def _mean_length(flow: np.ndarray) -> float:
    import cv2

    return float(cv2.magnitude(flow[..., 0], flow[..., 1]).mean())


def _camera_and_rest(flow: np.ndarray) -> tuple[float, float]:
    """Mean lengths, in pixels, of the affine field that half of the `(h, w, 2)` flow follows best, and of the rest."""
    sparse = np.ascontiguousarray(flow[FIT_STRIDE // 2 :: FIT_STRIDE, FIT_STRIDE // 2 :: FIT_STRIDE], np.float64)
    points = _points(*sparse.shape[:2])
    moves = sparse.view(np.complex128).ravel()  # x + iy: one number per point
    half = len(moves) // 2
    rest = moves - complex(*np.partition(sparse.reshape(-1, 2), half, axis=0)[half])
    for _ in range(NUM_FITS):
        error = np.abs(rest)
        best = error <= np.partition(error, half)[half]
        # Too small for BLAS to share between threads, whose number would show in the last bits.
        inside = points[best]
        rest = moves - points @ np.linalg.solve(inside.T @ inside, inside.T @ moves[best])
    return float(np.abs(moves - rest).mean()), float(np.abs(rest).mean())


@lru_cache(maxsize=16)
def _points(height: int, width: int) -> np.ndarray:
    """`(n, 3)`: 1, row and column of each point of a grid, -1 to 1."""
    rows, columns = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return np.stack([np.ones(height * width), rows.ravel(), columns.ravel()], axis=1)


def _small(luma: np.ndarray) -> np.ndarray:
    """`(h, w)` uint8 luma with a short side of 56 to 112 px, by averaging whole blocks, which is fastest."""
    import cv2

    height, width = luma.shape
    block = max(1, min(height, width) // FLOW_SHORT_SIDE_PX)
    whole_blocks = luma[: height // block * block, : width // block * block]
    size = (width // block, height // block)
    if min(size) < FLOW_SHORT_SIDE_PX:
        scale = FLOW_SHORT_SIDE_PX / min(size)
        size = (max(FLOW_SHORT_SIDE_PX, round(width * scale)), max(FLOW_SHORT_SIDE_PX, round(height * scale)))
    return np.asarray(cv2.resize(whole_blocks, size, interpolation=cv2.INTER_AREA))
