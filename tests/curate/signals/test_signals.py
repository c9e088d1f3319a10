"""Each cheap signal against pictures whose value is known."""

from collections.abc import Callable

import numpy as np
import pytest

from curate.signals.freeze import FreezeSignal
from curate.signals.letterbox import LetterboxSignal
from curate.signals.luminance import LuminanceSignal
from curate.signals.motion import MotionSignal
from curate.signals.sharpness import SharpnessSignal
from curate.signals.signal import FrameSignal, ScanFrame


def summary(signal: FrameSignal, rgb: np.ndarray, fps: int = 24, first: int = 0, end: int | None = None):
    """The signals of frames `[first, end)` after a pass over all."""
    values = np.array([signal.measure(ScanFrame(shown_s=n / fps, rgb=frame)) for n, frame in enumerate(rgb)])
    end = len(rgb) if end is None else end
    return signal.summarize(values[first:end], np.arange(first, end) / fps, end / fps)


def pan(speed: float, fps: int, height: int = 180, seconds: float = 1.0) -> np.ndarray:
    """A smooth texture that moves right to left by `speed` picture heights a second."""
    import cv2

    rng = np.random.default_rng(0)
    width = height * 16 // 9
    wide = rng.integers(0, 256, (12, 60, 3)).astype(np.uint8)
    wide = cv2.resize(wide, (height * 5, height), interpolation=cv2.INTER_CUBIC)
    shifts = [speed * height * number / fps for number in range(int(fps * seconds))]
    move = [np.array([[1, 0, -shift], [0, 1, 0]], np.float32) for shift in shifts]
    return np.stack([cv2.warpAffine(wide, matrix, (width, height), flags=cv2.INTER_LINEAR) for matrix in move])


@pytest.mark.parametrize("speed", [0.05, 0.3, 1.0])
def test_motion_is_speed_whatever_the_rate_and_size(speed: float) -> None:
    for fps, height in ((24, 180), (60, 180), (12, 180), (24, 90)):
        measured = summary(MotionSignal(), pan(speed, fps, height), fps)["motion"]
        assert measured == pytest.approx(speed, rel=0.15, abs=0.01), (fps, height)


def test_still_picture_has_no_motion_even_in_noise() -> None:
    still = pan(0.0, 24).astype(np.int16)
    noisy = np.clip(still + np.random.default_rng(0).normal(0, 4, still.shape), 0, 255).astype(np.uint8)
    assert summary(MotionSignal(), pan(0.0, 24))["motion"] < 0.002
    assert summary(MotionSignal(), noisy)["motion"] < 0.03


def test_motion_does_not_cross_a_cut(draw_scenes: Callable[..., np.ndarray]) -> None:
    still = draw_scenes([1, 1]).repeat(24, axis=0)
    for first, end in ((0, 24), (24, 48)):
        assert summary(MotionSignal(), still, first=first, end=end)["motion"] < 0.002
    assert summary(MotionSignal(), still)["motion"] > 0.01


def test_blur_lowers_sharpness(draw_scenes: Callable[..., np.ndarray]) -> None:
    import cv2

    sharp = draw_scenes([5])
    blurred = np.stack([cv2.GaussianBlur(frame, (0, 0), 3) for frame in sharp])
    gray = sharp[0].astype(np.float64) @ (0.299, 0.587, 0.114)
    padded = np.pad(np.round(gray), 1, mode="reflect")
    laplacian = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] - 4 * padded[1:-1, 1:-1]
    measured = summary(SharpnessSignal(), sharp[:1])["sharpness"]
    assert measured == pytest.approx(laplacian.var(), rel=0.02)
    assert summary(SharpnessSignal(), blurred)["sharpness"] < measured / 10


def test_luminance_and_black(draw_scenes: Callable[..., np.ndarray]) -> None:
    half = np.concatenate([np.zeros((10, 90, 160, 3), np.uint8), np.full((30, 90, 160, 3), 204, np.uint8)])
    signals = summary(LuminanceSignal(), half)
    assert signals == pytest.approx({"luminance": 0.75 * 204 / 255, "black_fraction": 0.25}, abs=1e-3)
    assert summary(LuminanceSignal(), draw_scenes([4]))["black_fraction"] == 0


def test_freeze_counts_stretches_of_half_a_second(draw_scenes: Callable[..., np.ndarray]) -> None:
    moving = draw_scenes([24])
    frozen = np.concatenate([moving, moving[-1:].repeat(24, axis=0)])
    assert summary(FreezeSignal(), frozen)["freeze_fraction"] == pytest.approx(25 / 48)
    assert summary(FreezeSignal(), moving)["freeze_fraction"] == 0
    assert summary(FreezeSignal(), moving.repeat(2, axis=0))["freeze_fraction"] == 0  # on twos: no freeze
    assert summary(FreezeSignal(), moving[:1].repeat(24, axis=0))["freeze_fraction"] == 1
    assert summary(FreezeSignal(), frozen, first=24)["freeze_fraction"] == 1  # the cut itself is no change


@pytest.mark.parametrize(("left", "top", "right", "bottom"), [(0, 20, 0, 20), (40, 0, 40, 0), (10, 5, 0, 30)])
def test_bars_are_measured(
    draw_scenes: Callable[..., np.ndarray], left: int, top: int, right: int, bottom: int
) -> None:
    rgb = np.maximum(draw_scenes([10]), 40)
    height, width = rgb.shape[1:3]
    boxed = np.zeros_like(rgb)
    boxed[:, top : height - bottom, left : width - right] = rgb[:, top : height - bottom, left : width - right]
    boxed[4] = 0  # a dark frame says nothing
    signals = summary(LetterboxSignal(), boxed)
    assert signals == pytest.approx(
        {
            "letterbox_fraction": 1 - (width - left - right) * (height - top - bottom) / (width * height),
            "box_left": left / width,
            "box_top": top / height,
            "box_right": 1 - right / width,
            "box_bottom": 1 - bottom / height,
        }
    )
    boxed[7] = rgb[7]  # one frame without bars: they are not constant
    assert summary(LetterboxSignal(), boxed)["letterbox_fraction"] == 0


def test_black_clip_has_no_bars() -> None:
    assert summary(LetterboxSignal(), np.zeros((5, 90, 160, 3), np.uint8))["letterbox_fraction"] == 0
