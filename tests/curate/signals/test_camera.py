"""The camera's motion, on textured pictures that move at a known speed."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from curate.signals.base import ScanFrame
from curate.signals.motion import MotionSignal

FPS = 24
HEIGHT, WIDTH = 144, 256
MOVES = ("pan", "tilt", "zoom", "roll")

Path = Callable[[float], tuple[float, float, float, float]]
"""Seconds → the camera's way to the right and upward, short sides; log of its zoom; its turn clockwise, degrees."""


def film(path: Path, seconds: float = 1.0, seed: int = 0) -> np.ndarray:
    """What a camera on this path sees of a large textured picture, (T, H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    size = (HEIGHT * 4, WIDTH * 4)
    picture = cv2.resize(rng.integers(0, 256, (40, 70, 3), np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC)
    frames = []
    for number in range(round(seconds * FPS)):
        right, up, log_zoom, degrees = path(number / FPS)
        cos, sin = np.exp(log_zoom) * np.cos(np.radians(degrees)), np.exp(log_zoom) * np.sin(np.radians(degrees))
        turned = np.array([[cos, sin], [-sin, cos]])  # rows go down: the content turns counterclockwise
        seen = np.array([size[1] / 2 + right * HEIGHT, size[0] / 2 - up * HEIGHT])
        shift = np.array([WIDTH - 1, HEIGHT - 1]) / 2 - turned @ seen
        frames.append(cv2.warpAffine(picture, np.column_stack([turned, shift]), (WIDTH, HEIGHT)))
    return np.stack(frames)


def still(seconds: float = 1.0, seed: int = 0) -> np.ndarray:
    return film(lambda t: (0, 0, 0, 0), seconds, seed)


def measured(rgb: np.ndarray) -> dict[str, float]:
    signal = MotionSignal()
    values = np.array([signal.measure(ScanFrame(shown_s=n / FPS, rgb=frame)) for n, frame in enumerate(rgb)])
    return signal.summarize(values, np.arange(len(rgb)) / FPS, len(rgb) / FPS)


@pytest.mark.parametrize(
    ("move", "speeds"),
    [
        ("pan", (0.05, -0.2, 0.6)),
        ("tilt", (-0.05, 0.2, -0.6)),
        ("zoom", (0.05, -0.2, 0.5)),
        ("roll", (3.0, -10.0, 40.0)),
    ],
)
def test_sign_and_size_of_each_move_are_measured(move: str, speeds: tuple[float, ...]) -> None:
    for speed in speeds:
        found = measured(film(lambda t, speed=speed: tuple(speed * t * (name == move) for name in MOVES)))
        assert found[move] == pytest.approx(speed, rel=0.05), move
        for other in set(MOVES) - {move}:
            assert abs(found[other]) < (0.5 if other == "roll" else 0.05 * abs(speed) if move != "roll" else 0.05)
        assert found["camera_support"] > 0.9 and found["shake"] < 0.01


def test_moves_at_the_same_time_are_told_apart() -> None:
    found = measured(film(lambda t: (0.2 * t, -0.1 * t, 0.15 * t, 8 * t)))
    # Pan and tilt are the camera's own, along axes that turn with it and in a picture that grows.
    assert found["pan"] == pytest.approx(0.2, rel=0.15) and found["tilt"] == pytest.approx(-0.1, rel=0.3)
    assert found["zoom"] == pytest.approx(0.15, rel=0.15) and found["roll"] == pytest.approx(8, rel=0.15)


def test_a_moving_object_is_not_the_camera() -> None:
    frames, moving = still().copy(), film(lambda t: (-0.5 * t, 0, 0, 0), seed=5)
    for number, frame in enumerate(frames):
        frame[30:120, 40 + 3 * number : 150 + 3 * number] = moving[number, 30:120, :110]
    found = measured(frames)
    assert max(abs(found[name]) for name in ("pan", "tilt", "zoom")) < 0.01 and abs(found["roll"]) < 0.6
    assert found["local_motion"] > 0.1 and found["camera_support"] < 0.9


def test_places_without_texture_have_no_say() -> None:
    frames = film(lambda t: (0.3 * t, 0, 0, 0)).copy()
    frames[:, : HEIGHT * 5 // 8] = 200
    assert measured(frames)["pan"] == pytest.approx(0.3, rel=0.05)


def test_neither_noise_nor_light_is_motion() -> None:
    noise = np.random.default_rng(0).normal(0, 4, (FPS, HEIGHT, WIDTH, 3))
    ramp = np.linspace(0, 30, FPS)[:, None, None, None]
    for disturbed in (still() + noise, still() * 0.8 + ramp):
        found = measured(np.clip(disturbed, 0, 255).astype(np.uint8))
        assert max(abs(found[name]) for name in (*MOVES, "shake")) < 0.05 and found["camera_support"] > 0.9


def test_what_cannot_be_measured_has_no_support() -> None:
    flat = np.full((FPS, HEIGHT, WIDTH, 3), 90, np.uint8)
    assert measured(flat) == dict.fromkeys(MotionSignal.columns, 0)
    unrelated = np.random.default_rng(0).integers(0, 256, flat.shape, np.uint8)
    assert measured(unrelated)["camera_support"] < 0.4


def test_a_shaking_camera_is_told_from_one_that_pans_there_and_back() -> None:
    shaking = measured(film(lambda t: (0.01 * np.sin(14 * t), 0.01 * np.cos(9 * t), 0, 0), 2))
    panning = measured(film(lambda t: (0.1 * np.sin(np.pi * t), 0, 0, 0), 2))
    assert shaking["shake"] > 0.05 and panning["shake"] < 0.02
    assert panning["camera_motion"] > 1.5 * shaking["camera_motion"]
    assert abs(shaking["pan"]) < 0.02 and abs(panning["pan"]) < 0.05


def test_one_blow_is_no_shake() -> None:
    assert measured(film(lambda t: (0.1 * (t > 1), 0, 0, 0), 2))["shake"] < 0.01
