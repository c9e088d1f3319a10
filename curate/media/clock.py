"""When each frame is shown: by the stream's own times, or by counting where those cannot be used."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from curate.schema import FailureKind, MediaError

if TYPE_CHECKING:
    import av
    from av.video.stream import VideoStream

COUNTED_TICKS_PER_FRAME = 1000

DEFAULT_FPS = Fraction(25)
"""The rate of a stream that states none."""

RATE_SLACK = Fraction(11, 10)
"""An average rate cannot exceed the rate of the ticks that all frames fall on, except by rounding."""


class UnreliableTimestampsError(MediaError):
    """Times that are missing or do not increase: the file can be read with `counted_time_base` only."""

    def __init__(self, detail: str) -> None:
        super().__init__(FailureKind.CORRUPT, detail)


def counted_time_base(fps: Fraction) -> Fraction:
    """Time base of a stream whose own times cannot be used: frame number n has pts `1000 n`, at a constant rate.

    A thousandth of a frame, because no stream has that time base: a span tells by it which clock it was taken with.
    """
    return 1 / (fps * COUNTED_TICKS_PER_FRAME)


def declared_fps(stream: "VideoStream") -> Fraction:
    """Frames per second by the header.

    The average (frames over duration) is right for a variable rate. It is wrong where a container counts entries that
    are no frames (AVI with B-frames), where it knows no duration (DV), and where it has no times at all (elementary
    streams have a default there). The rate that libav guesses from codec and ticks is right in these cases.
    """
    guessed = stream.guessed_rate or stream.base_rate
    average = stream.average_rate
    has_times = stream.duration is not None or stream.start_time is not None
    if average and has_times and (not guessed or average <= guessed * RATE_SLACK):
        return Fraction(average)
    return Fraction(guessed or average or DEFAULT_FPS)


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodedFrame:
    """A decoded frame, and its pixel aspect ratio (width over height)."""

    image: "av.VideoFrame"
    sample_aspect_ratio: Fraction


@dataclass(frozen=True, kw_only=True, slots=True)
class TimedFrame:
    """A decoded frame, shown in `[pts, pts + duration)` in units of the reader's time base."""

    pts: int
    duration: int
    decoded: DecodedFrame

    @property
    def image(self) -> "av.VideoFrame":
        return self.decoded.image


@dataclass(frozen=True, kw_only=True, slots=True)
class SkippedFrame:
    """A frame that was not decoded, shown in `[pts, pts + duration)`."""

    pts: int
    duration: int


def timed(frames: Iterator[DecodedFrame | int]) -> Iterator[TimedFrame | SkippedFrame]:
    """Each frame lasts until the next one; the last one for its own duration, or else for that of its predecessor.

    Args:
        frames: In order of presentation; of a frame that was skipped, its pts.

    Raises:
        UnreliableTimestampsError: A time is missing or does not follow the one before.
    """
    previous: DecodedFrame | int | None = None
    previous_pts, duration = 0, 1
    for frame in frames:
        pts = frame if isinstance(frame, int) else frame.image.pts
        if pts is None:
            raise UnreliableTimestampsError("a frame has no timestamp")
        if previous is not None:
            if pts <= previous_pts:
                raise UnreliableTimestampsError(f"timestamp {pts} follows {previous_pts}")
            duration = pts - previous_pts
            yield _timed(previous, previous_pts, duration)
        previous, previous_pts = frame, pts
    if previous is not None:
        own = 0 if isinstance(previous, int) else previous.image.duration
        yield _timed(previous, previous_pts, own or duration)


def _timed(frame: DecodedFrame | int, pts: int, duration: int) -> TimedFrame | SkippedFrame:
    if isinstance(frame, int):
        return SkippedFrame(pts=pts, duration=duration)
    return TimedFrame(pts=pts, duration=duration, decoded=frame)


def counted(frames: Iterator[DecodedFrame]) -> Iterator[TimedFrame]:
    """Each frame by its number, in units of `counted_time_base`."""
    for number, frame in enumerate(frames):
        yield TimedFrame(pts=number * COUNTED_TICKS_PER_FRAME, duration=COUNTED_TICKS_PER_FRAME, decoded=frame)
