"""Motion: the mean speed of the optical flow, how much of it the camera explains, and how the camera moves."""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import ClassVar

import numpy as np

from curate.rules import Column, Rule
from curate.signals.base import ScanFrame
from curate.signals.camera import camera_motion

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

    `pan`, `tilt`, `zoom`, `roll`: how the camera moves, signed, mean over the clip; a camera that pans to the right
    moves the picture to the left. `curate.signals.camera` measures them, from the affine field on. `shake` tells a
    camera in a hand from one that pans there and back: both have no net motion. `camera_support` says how much of the
    picture agrees. Known speeds of textured pictures are measured within 5 %.

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
        "pan": Column(
            description="speed of the camera to the right, mean, short sides per second; negative: to the left",
            for_images=False,
        ),
        "tilt": Column(
            description="speed of the camera upward, mean, short sides per second; negative: downward",
            for_images=False,
        ),
        "zoom": Column(
            description="growth of the picture, mean, as a part of its size per second; negative: zoom out",
            for_images=False,
        ),
        "roll": Column(
            description="turn of the camera clockwise, mean, degrees per second; negative: counterclockwise",
            for_images=False,
        ),
        "shake": Column(
            description="jerks of pan and tilt between eighths of a second, median, short sides per second",
            range=(0, math.inf),
            for_images=False,
        ),
        "camera_support": Column(
            description="share of the picture's texture that follows pan, tilt, zoom and roll, mean",
            range=(0, 1),
            for_images=False,
        ),
    }
    num_values: ClassVar[int] = 9
    """The three speeds, when the pair's earlier frame is shown; pan, tilt, zoom and roll per second, their support.
    NaN where no pair ends."""

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
            return (np.nan,) * self.num_values
        self._tick = tick
        small = _small(frame.luma)
        earlier, self._earlier = self._earlier, (frame.shown_s, small)
        if earlier is None or earlier[1].shape != small.shape:
            return (np.nan,) * self.num_values
        # The flow is computed in as many stripes as there are threads, and depends on them.
        if cv2.getNumThreads() != 1:
            cv2.setNumThreads(1)
        flow = self._flow.calc(earlier[1], small, None)  # type: ignore[call-overload]
        camera_px, rest_px, field = _camera_and_rest(flow)
        seconds = frame.shown_s - earlier[0]
        per_second = 1 / min(small.shape) / seconds
        speeds = (speed * per_second for speed in (_mean_length(flow), camera_px, rest_px))
        camera = camera_motion(earlier[1], small, _in_short_sides(field, small.shape))
        moves = (move / seconds for move in (camera.pan, camera.tilt, camera.zoom, camera.roll))
        return *speeds, earlier[0], *moves, camera.support

    @staticmethod
    def summarize(values: np.ndarray, starts_s: np.ndarray, end_s: float) -> dict[str, float]:
        inside = values[values[:, 3] >= starts_s[0] - 1e-9]  # false for NaN
        if not len(inside):
            return dict.fromkeys(MotionSignal.columns, 0.0)
        speeds, moves, support = inside[:, :3].mean(axis=0), inside[:, 4:8], inside[:, 8]
        net = (moves * support[:, None]).sum(axis=0) / max(support.sum(), 1e-9)
        means = (*speeds.tolist(), *net.tolist(), _shake(moves[:, :2]), float(support.mean()))
        return dict(zip(MotionSignal.columns, means, strict=True))


def _shake(speeds: np.ndarray) -> float:
    """Median distance of the `(n, 2)` speeds from the mean of their two neighbors; 0 for fewer than three. It is small
    in a steady move and in one that gets slower, and one blow hardly changes it."""
    if len(speeds) < 3:
        return 0.0
    return float(np.median(np.hypot(*(speeds[1:-1] - (speeds[:-2] + speeds[2:]) / 2).T)))


def _mean_length(flow: np.ndarray) -> float:
    # cv2.magnitude depends on where its arrays are in memory, in the last bits.
    x, y = flow[..., 0], flow[..., 1]
    return float(np.sqrt(x * x + y * y).mean())


def _camera_and_rest(flow: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Mean lengths, in pixels, of the affine field that half of the `(h, w, 2)` flow follows best, and of the rest;
    and the field: `(3,)` complex, x + iy, in the coordinates of `_points`."""
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
        field = np.linalg.solve(inside.T @ inside, inside.T @ moves[best])
        rest = moves - points @ field
    return float(np.abs(moves - rest).mean()), float(np.abs(rest).mean()), field


def _in_short_sides(field: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`(2, 3)` as `camera_motion` takes it, from a field on a flow of `(h, w)` pixels (see `_camera_and_rest`)."""
    first, short_side = FIT_STRIDE // 2, min(size)
    # The points are at ±1 this far from their center, which is not quite the picture's.
    extents = [FIT_STRIDE * ((length - first - 1) // FIT_STRIDE) / 2 for length in size]
    by_y, by_x = field[1] / extents[0], field[2] / extents[1]
    off_y, off_x = ((length - 1) / 2 - first - extent for length, extent in zip(size, extents, strict=True))
    center = (field[0] + by_y * off_y + by_x * off_x) / short_side
    return np.array([[center.real, by_x.real, by_y.real], [center.imag, by_x.imag, by_y.imag]])


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
