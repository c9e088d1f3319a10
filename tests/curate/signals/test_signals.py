"""Each cheap signal against pictures whose value is known."""

from collections.abc import Callable

import numpy as np
import pytest

from curate.signals.base import FrameSignal, ScanFrame
from curate.signals.fade import FadeSignal
from curate.signals.flash import FlashSignal
from curate.signals.freeze import FreezeSignal
from curate.signals.letterbox import LetterboxSignal
from curate.signals.luminance import LuminanceSignal
from curate.signals.motion import MotionSignal
from curate.signals.sharpness import SharpnessSignal


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


def test_pan_and_zoom_are_the_camera_s_and_an_object_is_not() -> None:
    import cv2

    height, width, fps = 180, 320, 24
    panned = summary(MotionSignal(), pan(0.4, fps))
    assert panned["camera_motion"] == pytest.approx(panned["motion"], rel=0.1)
    assert panned["local_motion"] < 0.1 * panned["motion"]

    picture = pan(0.0, fps)[0]
    zoom = [cv2.getRotationMatrix2D((width / 2, height / 2), 0, 1 + 0.02 * number) for number in range(fps)]
    zoomed = np.stack([cv2.warpAffine(picture, matrix, (width, height)) for matrix in zoom])
    signals = summary(MotionSignal(), zoomed)
    assert signals["camera_motion"] > 0.1 and signals["local_motion"] < 0.3 * signals["camera_motion"]

    crossed = picture[None].repeat(fps, axis=0)
    for number, frame in enumerate(crossed):
        frame[40:140, 20 + 6 * number : 120 + 6 * number] = picture[:100, :100, ::-1]
    signals = summary(MotionSignal(), crossed)
    assert signals["local_motion"] > 0.1 and signals["camera_motion"] < 0.4 * signals["local_motion"]


def lit(levels: list[float], seconds: float, fps: int = 24) -> np.ndarray:
    """A gray picture with some texture, whose brightness takes these values in turn."""
    rng = np.random.default_rng(0)
    texture = rng.normal(0, 0.02, (72, 128, 1)).repeat(3, axis=2)
    levels = np.repeat(levels, round(seconds * fps))
    return (np.clip(levels[:, None, None, None] + texture, 0, 1) * 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("levels", "seconds", "num_flashes"),
    [
        ([0.2, 0.2, 0.2, 0.2], 1, 0),
        ([0.2] * 12 + [0.9] + [0.2] * 12, 1 / 24, 1),  # a single white frame
        ([0.8] * 12 + [0.1] * 3 + [0.8] * 12, 1 / 24, 1),
        ([0.2, 0.9] * 12, 1 / 12, 11),  # a strobe of 6 Hz
        ([0.2, 0.9, 0.2], 1, 0),  # a light that stays on for a second
        ([0.2, 0.28] * 12, 1 / 24, 0),  # flicker
        (np.concatenate([np.linspace(0.2, 0.9, 24), np.linspace(0.9, 0.2, 24)]).tolist(), 1 / 24, 0),  # slow
    ],
)
def test_flashes_are_counted(levels: list[float], seconds: float, num_flashes: int) -> None:
    for fps in (24, 48):
        rgb = lit(levels, seconds, fps)
        rate = summary(FlashSignal(), rgb, fps)["flash_rate"]
        assert rate * len(rgb) / fps == pytest.approx(num_flashes)


@pytest.mark.parametrize("color", [0, 255])
@pytest.mark.parametrize("fade_s", [0.5, 1.0, 3.0])
def test_fades_are_timed_while_the_picture_moves(
    draw_scenes: Callable[..., np.ndarray], color: int, fade_s: float
) -> None:
    fps, rng = 24, np.random.default_rng(0)
    moving = draw_scenes([96 + round(fade_s * fps)]).astype(np.float64)
    shown = np.clip(np.arange(len(moving))[::-1] / (fade_s * fps), 0, 1)[:, None, None, None]
    for order in (1, -1):
        faded = (moving * shown + color * (1 - shown))[::order] + rng.normal(0, 2, moving.shape)
        signals = summary(FadeSignal(), np.clip(faded, 0, 255).astype(np.uint8), fps)
        assert signals["fade_fraction"] * len(moving) / fps == pytest.approx(fade_s, abs=0.3)


def test_what_is_no_fade(draw_scenes: Callable[..., np.ndarray]) -> None:
    scene = draw_scenes([48])
    gray = np.full_like(scene, 128)
    share = np.linspace(0, 1, 48)[:, None, None, None]
    crossing = np.zeros_like(scene)
    for number, frame in enumerate(crossing):
        frame[20:70, max(0, 100 - 4 * number) : max(0, 150 - 4 * number)] = 230
    cases = {
        "a moving scene": scene,
        "a still": scene[:1].repeat(48, axis=0),
        "black": np.zeros_like(scene),
        "a cut to black": np.concatenate([scene[:24], np.zeros_like(scene[:24])]),
        "out of focus to gray": (scene * (1 - share) + gray * share).astype(np.uint8),
        "a bright thing leaves the dark": crossing,
    }
    fractions = {name: summary(FadeSignal(), rgb)["fade_fraction"] for name, rgb in cases.items()}
    assert fractions == dict.fromkeys(cases, 0)


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
