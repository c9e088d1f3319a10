"""What is measured of a clip: facts that a prompt gives to the model, and that no caption may contradict."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

STATIC_SPEED = 0.01
"""Motion of a clip that does not move, short sides per second: what noise alone gives, see `curate.signals.motion`."""

MIN_SUPPORT = 0.6
"""Share of the texture that must stay with a static camera. Shots that an actor fills have 0.4 to 0.55, and what is
measured there is the actor; locked-off shots with actors have 0.65 and more."""

MIN_DURATION_S = 1.0
"""Below, there are fewer than eight measurements."""

PAN_SPEED, ZOOM_SPEED, ROLL_SPEED = 0.03, 0.03, 3.0
"""From here on a motion is named: short sides, parts of the size, degrees per second. A third of a picture passes in
ten seconds, which one sees."""

STILL_PAN_SPEED, STILL_ZOOM_SPEED, STILL_ROLL_SPEED = 0.006, 0.006, 0.5
"""Up to here a camera is static. In between nothing is said: a slow drift is neither."""

SHAKE, STILL_SHAKE = 0.02, 0.01
"""`shake` from which on a camera is in a hand, and up to which it is not. Tripods and animation give up to 0.008."""

MOVING_SUPPORT = 0.7
"""Share of the texture that must move with the camera: an actor's gestures look like a pan or a shake, with up to
0.65."""

SHAKE_PART = 0.2
"""Of the mean speed of the picture, that shake must have: a camera that swings there and back gives 0.13."""

MIN_PART = 1 / 3
"""Of a diagonal pan, the smaller part is named from this part of the larger one on."""

MIN_NET = 0.5
"""Of the mean speed of the picture, what remains in one direction: a pan there and back has no direction."""

MEAN_RADIUS = 0.4
"""Short sides: mean distance of a picture's points from its center, by which a zoom or a roll moves them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """Measured of a clip.

    Attributes:
        kind: A still image, or a video.
        duration_s: Seconds; None where it is not known.
        camera: Motions of the camera in the field's terms: `pan left`, `pan right`, `tilt up`, `tilt down`, `zoom in`,
            `zoom out`, `roll left`, `roll right`, `handheld`; or `static` alone. None: not measured, or not certain.
        is_static: Nothing moves, the camera included; None: not measured.
    """

    kind: Literal["video", "image"] = "video"
    duration_s: float | None = None
    camera: tuple[str, ...] | None = None
    is_static: bool | None = None

    def sentence(self) -> str:
        """For a prompt; empty where nothing is measured."""
        if self.kind == "image" or self.camera is None:
            return ""
        still = " Nothing moves in the picture." if self.is_static else ""
        return f"Measured camera motion: {', '.join(self.camera)}.{still}"


NOTHING_MEASURED = Facts()


def facts_of(row: Mapping[str, Any]) -> Facts:
    """The facts in a row of the index that is joined with the signals of its clip. Each of its columns may be null or
    absent, as the signals of clips that an earlier reelpack scanned are."""
    if row.get("kind") == "image":
        return Facts(kind="image")
    motion = row.get("motion")
    return Facts(
        duration_s=row.get("duration_s"),
        camera=_camera(row),
        is_static=None if motion is None else motion < STATIC_SPEED,
    )


def _camera(row: Mapping[str, Any]) -> tuple[str, ...] | None:
    names = ("pan", "tilt", "zoom", "roll", "shake", "camera_support", "camera_motion")
    values = [row.get(name) for name in names]
    duration_s = row.get("duration_s")
    if any(value is None or not math.isfinite(value) for value in values):
        return None
    pan, tilt, zoom, roll, shake, support, speed = (float(value) for value in values if value is not None)
    if support < MIN_SUPPORT or (duration_s is not None and duration_s < MIN_DURATION_S):
        return None
    still = max(abs(pan), abs(tilt)) <= STILL_PAN_SPEED and abs(zoom) <= STILL_ZOOM_SPEED
    if still and abs(roll) <= STILL_ROLL_SPEED and shake <= STILL_SHAKE:
        return ("static",)
    if support < MOVING_SUPPORT:
        return None
    net = math.hypot(pan, tilt) + MEAN_RADIUS * (abs(zoom) + math.radians(abs(roll)))
    least = max(PAN_SPEED, MIN_PART * abs(pan), MIN_PART * abs(tilt))
    named = (
        _named(pan, least, "pan left", "pan right"),
        _named(tilt, least, "tilt down", "tilt up"),
        _named(zoom, ZOOM_SPEED, "zoom out", "zoom in"),
        _named(roll, ROLL_SPEED, "roll left", "roll right"),
    )
    moves = tuple(name for name in named if name) if net >= MIN_NET * speed else ()
    is_handheld = shake >= max(SHAKE, SHAKE_PART * speed)
    return (*moves, *(("handheld",) if is_handheld else ())) or None


def _named(speed: float, least: float, negative: str, positive: str) -> str | None:
    return None if abs(speed) < least else positive if speed > 0 else negative
