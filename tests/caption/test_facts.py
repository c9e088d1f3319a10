"""What the measured columns say about the camera, in words."""

import math
from typing import Any

import pytest

from caption.facts import Facts, facts_of
from tests.curate.signals.test_camera import FPS, MOVES, Path, film, measured, still

LOCKED_OFF = {
    **dict.fromkeys(MOVES, 0.0),
    **{"shake": 0.001, "camera_support": 0.9, "motion": 0.05, "camera_motion": 0.01, "local_motion": 0.04},
    **{"duration_s": 3.0, "kind": "video"},
}


def camera(**changes: Any) -> tuple[str, ...] | None:
    return facts_of(LOCKED_OFF | changes).camera


def seen(path: Path, seconds: float = 1.5) -> tuple[str, ...] | None:
    rgb = film(path, seconds)
    return facts_of({**measured(rgb), "duration_s": len(rgb) / FPS}).camera


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (lambda t: (0, 0, 0, 0), ("static",)),
        (lambda t: (-0.1 * t, 0, 0, 0), ("pan left",)),
        (lambda t: (0.1 * t, 0.08 * t, 0, 0), ("pan right", "tilt up")),
        (lambda t: (0.02 * t, -0.2 * t, 0, 0), ("tilt down",)),
        (lambda t: (0, 0, 0.1 * t, 0), ("zoom in",)),
        (lambda t: (0.1 * t, 0, -0.1 * t, 0), ("pan right", "zoom out")),
        (lambda t: (0, 0, 0, 12 * t), ("roll right",)),
        (lambda t: (0, 0, 0, -12 * t), ("roll left",)),
        (lambda t: (0.015 * math.sin(14 * t), 0.01 * math.cos(13 * t), 0, 0), ("handheld",)),
        (lambda t: (0.2 * t + 0.015 * math.sin(14 * t), 0.01 * math.cos(13 * t), 0, 0), ("pan right", "handheld")),
        (lambda t: (0.2 * math.sin(2 * math.pi * t / 1.5), 0, 0, 0), None),  # there and back
        (lambda t: (0.015 * t, 0, 0, 0), None),  # a slow drift
    ],
)
def test_a_filmed_move_gets_its_name(path: Path, expected: tuple[str, ...] | None) -> None:
    assert seen(path) == expected


def test_a_moving_object_before_a_locked_off_camera_is_static() -> None:
    frames, moving = still(1.5).copy(), film(lambda t: (-0.5 * t, 0, 0, 0), 1.5, seed=5)
    for number, frame in enumerate(frames):
        frame[30:120, 20 + 3 * number : 130 + 3 * number] = moving[number, 30:120, :110]
    facts = facts_of({**measured(frames), "duration_s": 1.5})
    assert facts.camera == ("static",) and facts.is_static is False


@pytest.mark.parametrize(
    "changes",
    [
        *({name: None} for name in (*MOVES, "shake", "camera_support", "camera_motion")),
        {"pan": math.nan},
        {"camera_support": 0.5},  # an actor fills the frame
        {"pan": 0.2, "camera_motion": 0.2, "camera_support": 0.5},
        {"duration_s": 0.4},
        {"pan": 0.01},
        {"shake": 0.015},
        {"shake": 0.05, "camera_support": 0.65},
        {"pan": 0.031, "tilt": -0.023, "zoom": 0.023, "camera_motion": 0.09, "camera_support": 0.6},  # an actor waves
    ],
)
def test_what_is_not_certain_is_not_told(changes: dict[str, Any]) -> None:
    assert camera() == ("static",)
    facts = facts_of(LOCKED_OFF | changes)
    assert facts.camera is None and facts.sentence() == ""


def test_a_row_without_signals_has_no_facts() -> None:
    assert facts_of({}) == Facts()
    assert facts_of({"kind": "image", "motion": 0.0, "duration_s": None}) == Facts(kind="image")
    assert facts_of({"duration_s": 2.0, "motion": None}) == Facts(duration_s=2.0)
    earlier = {name: value for name, value in LOCKED_OFF.items() if name not in (*MOVES, "shake", "camera_support")}
    assert facts_of(earlier).camera is None


def test_the_prompt_says_what_is_measured() -> None:
    assert Facts(camera=("pan left", "zoom in")).sentence() == "Measured camera motion: pan left, zoom in."
    assert "Nothing moves" in Facts(camera=("static",), is_static=True).sentence()
    assert "Nothing moves" not in Facts(camera=("static",), is_static=False).sentence()
    assert Facts(kind="image", camera=("static",)).sentence() == ""
