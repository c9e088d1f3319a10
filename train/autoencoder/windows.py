"""Windows of a clip: every frame of a long clip is encoded, in pieces that the autoencoder's frame rule takes."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, pairwise

import numpy as np

from train.autoencoder.base import usable_frames


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """`num_frames` frames of a clip from `start`; `number` counts the windows of the clip."""

    number: int
    start: int
    num_frames: int

    @property
    def end(self) -> int:
        return self.start + self.num_frames


def windows_of(num_frames: int, *, max_frames: int, temporal_stride: int) -> tuple[Window, ...]:
    """The fewest windows of `1 + temporal_stride * k` frames, at most `max_frames`, that together show a clip.

    All windows have the same length, which is the smallest that covers the clip. They are spread evenly from the first
    frame to the last, so that neighbors share the frames that are left over. Two cases lose frames, fewer than
    `temporal_stride` in all, at both ends: a clip of one window, and a clip that full windows do not quite cover.

    Args:
        num_frames: of the clip, one at least.
        max_frames: of a window.
        temporal_stride: of the autoencoder.
    """
    longest, usable = usable_frames(max_frames, temporal_stride), usable_frames(num_frames, temporal_stride)
    count = -(-usable // longest)
    each = -(-num_frames // count)
    length = usable if count == 1 else min(longest, usable_frames(each + temporal_stride - 1, temporal_stride))
    span = min(num_frames, count * length)
    first = (num_frames - span) // 2
    starts = (first + number * (span - length) // max(1, count - 1) for number in range(count))
    return tuple(Window(number=number, start=start, num_frames=length) for number, start in enumerate(starts))


def middle_of(num_frames: int, *, max_frames: int, temporal_stride: int) -> tuple[Window, ...]:
    """One window of at most `max_frames` frames in the middle of the clip."""
    length = usable_frames(min(num_frames, max_frames), temporal_stride)
    return (Window(number=0, start=(num_frames - length) // 2, num_frames=length),)


def in_windows(frames: Iterator[np.ndarray], windows: Sequence[Window]) -> Iterator[Iterator[np.ndarray]]:
    """The frames of each window, which the caller takes before the next window. Shared frames alone are kept.

    Args:
        frames: of the clip, from the start of the first window.
        windows: in order; each begins before the one before it ends, or there.
    """
    kept: list[np.ndarray] = []
    for window, following in pairwise([*windows, None]):
        assert window is not None
        taken = chain(kept, islice(frames, window.num_frames - len(kept)))
        kept = []
        num_own = window.num_frames if following is None else following.start - window.start
        yield _keeping(taken, num_own, kept)
    for _ in frames:  # there are none; what gives them ends
        pass


def _keeping(frames: Iterator[np.ndarray], num_own: int, kept: list[np.ndarray]) -> Iterator[np.ndarray]:
    """The frames; those after the first `num_own` are added to `kept`."""
    for number, frame in enumerate(frames):
        if number >= num_own:
            kept.append(frame)
        yield frame


def keeping(
    frames: Iterator[np.ndarray], numbers: Collection[int], kept: dict[int, np.ndarray]
) -> Iterator[np.ndarray]:
    """The frames; those of these numbers are added to `kept`."""
    for number, frame in enumerate(frames):
        if number in numbers:
            kept[number] = frame
        yield frame
