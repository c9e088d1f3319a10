"""Frames that no other frame refers to are left undecoded where nothing happens, or where nobody wants them.

The sizes of the packets tell, before they are decoded, which stretches are quiet: an encoder spends more on a frame
that its references do not predict. State begins at each key frame, so that a part of a file skips what a pass over the
whole of it skips.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from fractions import Fraction
from heapq import heappop, heappush
from statistics import median
from typing import TYPE_CHECKING, Protocol

from curate.schema import FailureKind, MediaError

if TYPE_CHECKING:
    import av
    from av.video.stream import VideoStream

MAX_GAP_S = 0.5
"""Longest time between two decoded frames."""

MAX_STEP_S = 0.25
"""Where a frame follows its predecessor, without those that refer to it, by more than this, all are decoded."""

UNUSUAL = 2.2
"""A packet that is this many times as large as the packets before it holds something new."""

NUM_SIZES, MIN_SIZES = 8, 2
"""How many earlier packets since the key frame a packet is compared with, at most and at least."""


class NotSkippableError(MediaError):
    """A file of which it cannot be told which frames are missing: it is to be decoded in full."""

    def __init__(self, detail: str) -> None:
        super().__init__(FailureKind.CORRUPT, detail)


class SkipRule(Protocol):
    """Which packets a decoder may leave out, if no other frame refers to theirs."""

    def may_skip(self, packet: "av.Packet") -> bool:
        """Called with each packet in order of decoding; the packet has a pts."""


class Quiet:
    """Packets of stretches in which nothing happens."""

    def __init__(self, time_base: Fraction) -> None:
        self._max_step = MAX_STEP_S / time_base
        self._sizes: deque[int] = deque(maxlen=NUM_SIZES)
        self._limit = 0.0
        self._last_pts: int | None = None
        self._decodes_all = True

    def may_skip(self, packet: "av.Packet") -> bool:
        assert packet.pts is not None
        if packet.is_keyframe:
            self._sizes.clear()
            self._decodes_all, self._last_pts = True, packet.pts
        elif self._last_pts is None or packet.pts > self._last_pts:
            self._advance(packet.pts, packet.size)
        return not self._decodes_all and packet.size <= self._limit

    def _advance(self, pts: int, size: int) -> None:
        """A frame that is shown after all frames before it in the file; those in between follow it."""
        is_step_long = self._last_pts is not None and pts - self._last_pts > self._max_step
        self._limit = UNUSUAL * median(self._sizes) if len(self._sizes) >= MIN_SIZES else 0.0
        self._decodes_all = is_step_long or size > self._limit
        self._last_pts = pts
        self._sizes.append(size)


class Unwanted:
    """Packets of frames that are shown at none of the `moments` (increasing), if the durations of packets are right.
    Whether they were is known from the frames' times."""

    def __init__(self, moments: Sequence[int]) -> None:
        self._moments = moments

    def may_skip(self, packet: "av.Packet") -> bool:
        assert packet.pts is not None
        if not packet.duration:
            return False
        next_moment = bisect_left(self._moments, packet.pts)
        return next_moment == len(self._moments) or self._moments[next_moment] >= packet.pts + packet.duration


class Skipping:
    """What one decoder skips. `before` is called with each packet that it is given, `missing` with each frame that it
    returns."""

    def __init__(self, stream: "VideoStream", rule: SkipRule) -> None:
        self._codec = stream.codec_context
        self._rule = rule
        self._given: list[tuple[int, bool]] = []

    def before(self, packet: "av.Packet") -> None:
        """Sets what the decoder may leave out of this packet."""
        if not packet.size:
            return
        if packet.pts is None:
            raise NotSkippableError("a packet has no timestamp")
        may_skip = self._rule.may_skip(packet)
        self._codec.skip_frame = "NONREF" if may_skip else "DEFAULT"
        if not packet.is_discard:
            heappush(self._given, (packet.pts, may_skip))

    def missing(self, pts: int | None, from_pts: int | None) -> Iterator[int]:
        """Times of the frames that were skipped before the frame at `pts`; None: up to the end. Those before
        `from_pts` are ignored.

        Raises:
            NotSkippableError: A packet that was to be decoded gave no frame.
        """
        while self._given and (pts is None or self._given[0][0] < pts):
            given_pts, may_skip = heappop(self._given)
            if from_pts is not None and given_pts < from_pts:
                continue
            if not may_skip:
                raise NotSkippableError(f"the packet at {given_pts} gave no frame")
            yield given_pts
        if self._given and self._given[0][0] == pts:
            heappop(self._given)
