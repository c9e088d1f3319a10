"""Times as lists of shots have them: seconds, clock times, SMPTE time codes, frame numbers."""

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np

from curate.shots.base import Timeline

SECONDS = re.compile(r"(\d+(?:[.,]\d*)?|[.,]\d+)\s*s?")
CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:[.,]\d*)?)")
TIME_CODE = re.compile(r"(\d+):(\d{2}):(\d{2}):(\d{2,3})")
DROP_FRAME = re.compile(r"\d+[:;]\d{2}[:;]\d{2};\d{2,3}")

Unit = Literal["seconds", "clock", "frames", "code"]
"""What a moment counts: seconds from the first frame, seconds on the file's clock, frames from the first one, or the
time code of a file that begins at zero."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """A point of a film, as a list has it.

    Attributes:
        text: As written.
        unit: Of the value.
        value: Seconds, or frames; of a time code, the whole seconds.
        frames: Of a time code, the frames after them.
    """

    text: str
    unit: Unit
    value: Fraction
    frames: int = 0

    @property
    def order(self) -> tuple[Fraction, int]:
        """Two moments of one unit are in order as these are."""
        return self.value, self.frames


def read_moment(text: str) -> Moment:
    """Seconds (`12.5`), a time (`00:01:02.500`, `1:02.5`) or a time code with frames (`00:01:02:12`).

    Raises:
        ValueError: it is none of them, or a drop-frame time code.
    """
    text = text.strip()
    if found := SECONDS.fullmatch(text):
        return Moment(text=text, unit="seconds", value=_number(found[1]))
    if found := CLOCK.fullmatch(text):
        hours, minutes, seconds = int(found[1] or 0), int(found[2]), _number(found[3])
        if seconds < 60 and (minutes < 60 or not found[1]):
            return Moment(text=text, unit="seconds", value=hours * 3600 + minutes * 60 + seconds)
    if found := TIME_CODE.fullmatch(text):
        hours, minutes, whole = int(found[1]), int(found[2]), int(found[3])
        if minutes < 60 and whole < 60:
            value = Fraction(hours * 3600 + minutes * 60 + whole)
            return Moment(text=text, unit="code", value=value, frames=int(found[4]))
    if DROP_FRAME.fullmatch(text):
        raise ValueError(f"got the drop-frame time code {text}; export the list with non-drop ones, or seconds")
    raise ValueError(f"got {text!r}, expected seconds (12.5), a time (00:01:02.500) or a time code (00:01:02:12)")


def read_seconds(text: str, unit: Unit = "seconds") -> Moment:
    """Seconds alone.

    Raises:
        ValueError: it is no number, or negative.
    """
    found = SECONDS.fullmatch(text.strip())
    if not found:
        raise ValueError(f"got {text!r}, expected seconds such as 12.5")
    return Moment(text=text.strip(), unit=unit, value=_number(found[1]))


def read_frame(text: str) -> Moment:
    """The number of a frame, from 0.

    Raises:
        ValueError: it is no whole number, or negative.
    """
    if not re.fullmatch(r"\s*\d+\s*", text):
        raise ValueError(f"got {text!r}, expected the number of a frame, from 0")
    return Moment(text=text.strip(), unit="frames", value=Fraction(int(text)))


def frame_at(moment: Moment, timeline: Timeline) -> int:
    """The frame whose beginning is nearest to a moment, or the number of frames for the end of the film. Lists round
    their times, so what is nearest is what was meant.

    Raises:
        ValueError: the moment is outside the film by more than a frame, or no frame of the film's rate.
    """
    num_frames, base = len(timeline.pts), timeline.time_base
    if moment.unit == "frames":
        if moment.value > num_frames:
            raise ValueError(f"{moment.text} is past the end of the film, which has {num_frames} frames")
        return int(moment.value)
    value, first = moment.value, int(timeline.pts[0])
    if moment.unit == "code":
        rate = max(1, round(timeline.fps))  # time codes count by the nearest whole rate
        if moment.frames >= rate:
            raise ValueError(f"{moment.text} has frame {moment.frames}, and the film {rate} frames per second")
        value = (value * rate + moment.frames) / timeline.fps
    zero, frame = 0 if moment.unit == "clock" else first, 1 / (timeline.fps * base)
    ticks = value / base + zero
    if ticks > timeline.end_pts + frame:
        raise ValueError(
            f"{moment.text} is past the end of the film, at {float((timeline.end_pts - zero) * base):.3f} s"
        )
    if ticks < first - frame:
        raise ValueError(
            f"{moment.text} is before the first frame, at {float(first * base):.3f} s on the film's clock"
        )
    after = int(np.searchsorted(timeline.pts, -(-ticks.numerator // ticks.denominator)))  # begins then or later
    if after == 0:
        return 0
    end = int(timeline.pts[after]) if after < num_frames else timeline.end_pts
    return after - 1 if ticks - int(timeline.pts[after - 1]) <= end - ticks else after


def _number(text: str) -> Fraction:
    return Fraction(text.replace(",", ".").removesuffix(".") or "0")
