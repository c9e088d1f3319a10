"""When each frame is shown: by the stream's own times, or by counting where those cannot be used."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from curate.schema import FailureKind, MediaError

if TYPE_CHECKING:
    import av

COUNTED_TICKS_PER_FRAME = 1000


class UnreliableTimestampsError(MediaError):
    """Times that are missing or do not increase: the file can be read with `counted_time_base` only."""

    def __init__(self, detail: str) -> None:
        super().__init__(FailureKind.CORRUPT, detail)


def counted_time_base(fps: Fraction) -> Fraction:
    """Time base of a stream whose own times cannot be used: frame number n has pts `1000 n`, at a constant rate.

    A thousandth of a frame, because no stream has that time base: a span tells by it which clock it was taken with.
    """
    return 1 / (fps * COUNTED_TICKS_PER_FRAME)


@dataclass(frozen=True, kw_only=True, slots=True)
class TimedFrame:
    """A decoded frame, shown in `[pts, pts + duration)` in units of the reader's time base."""

    pts: int
    duration: int
    image: "av.VideoFrame"


def timed(frames: "Iterator[av.VideoFrame]") -> Iterator[TimedFrame]:
    """Each frame lasts until the next one; the last one as long as it says, or else as its predecessor.

    Raises:
        UnreliableTimestampsError: A time is missing or does not follow the one before.
    """
    previous: av.VideoFrame | None = None
    duration = 1
    for frame in frames:
        if frame.pts is None:
            raise UnreliableTimestampsError("a frame has no timestamp")
        if previous is not None:
            assert previous.pts is not None
            if frame.pts <= previous.pts:
                raise UnreliableTimestampsError(f"timestamp {frame.pts} follows {previous.pts}")
            duration = frame.pts - previous.pts
            yield TimedFrame(pts=previous.pts, duration=duration, image=previous)
        previous = frame
    if previous is not None:
        assert previous.pts is not None
        yield TimedFrame(pts=previous.pts, duration=previous.duration or duration, image=previous)


def counted(frames: "Iterator[av.VideoFrame]") -> Iterator[TimedFrame]:
    """Each frame by its number, in units of `counted_time_base`."""
    for number, frame in enumerate(frames):
        yield TimedFrame(pts=number * COUNTED_TICKS_PER_FRAME, duration=COUNTED_TICKS_PER_FRAME, image=frame)
