"""The shape of a stream's pixels, frame by frame."""

from collections import deque
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.video.stream import VideoStream

MAX_WAITING = 64
"""Packets whose frames are still to come; decoders hold 16."""


class PixelShape:
    """Width over height of a pixel, which a stream may change on its way. The container's word counts until then."""

    def __init__(self, stream: "VideoStream") -> None:
        self._stream = stream
        self._declared = stream.sample_aspect_ratio or Fraction(1)
        self._first: Fraction | None = None
        self._by_pts: dict[int, Fraction | None] = {}
        self._untimed: deque[Fraction | None] = deque(maxlen=MAX_WAITING)

    def after(self, pts: int | None) -> None:
        """The packet with this time was decoded: what the decoder says now is true of its frame, shown later."""
        ratio = self._stream.codec_context.sample_aspect_ratio
        if pts is None:
            self._untimed.append(ratio)
        else:
            self._by_pts[pts] = ratio
            if len(self._by_pts) > MAX_WAITING:  # not every packet gives a frame
                del self._by_pts[next(iter(self._by_pts))]

    def of(self, pts: int | None) -> Fraction:
        """Of the frame with this time. Without times, frames of one shape come out before those of the next."""
        if pts is None:
            ratio = self._untimed.popleft() if self._untimed else self._first
        else:
            ratio = self._by_pts.pop(pts, self._first)
        if self._first is None:
            self._first = ratio
        return self._declared if ratio is None or ratio == self._first else ratio
