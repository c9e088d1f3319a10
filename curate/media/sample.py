"""A few frames of a span: exactly those that are shown at evenly spaced times."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

from curate.media.clock import SkippedFrame, TimedFrame
from curate.media.container import check_file, is_still
from curate.media.deinterlace import deinterlaced
from curate.media.frames import shrink
from curate.media.geometry import RgbConverter, geometry
from curate.media.skipping import Unwanted
from curate.media.still import read_still
from curate.media.stream import VideoReader
from curate.schema import FailureKind, MediaError, Span

NUM_LEADING = 2
"""Frames before a moment that are decoded too where they are needed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SampledFrames:
    """`rgb` is `(T, H, W, 3)` uint8, upright, square pixels; `pts` is `(T,)` int64 in the span's time base."""

    rgb: np.ndarray
    pts: np.ndarray


def sample_frames(
    path: str, span: Span, num_frames: int, *, short_side_px: int | None, deinterlace: bool = False
) -> SampledFrames:
    """The frames that are shown at the middles of `num_frames` equal parts of the span.

    A frame that is shown at several of these moments is given once, so `T <= num_frames`.

    Args:
        path: Local file.
        span: In the file's time base, or in its counted one.
        num_frames: At least 1.
        short_side_px: Frames are scaled down to this short side; None keeps their size.
        deinterlace: Frames that say that they are interlaced are made whole.

    Raises:
        MediaError: The kinds of `probe` and CORRUPT; NO_FRAMES where the file shows nothing in the span.
    """
    if num_frames < 1:
        raise ValueError(f"num_frames must be at least 1, got {num_frames}")
    check_file(path)
    if is_still(path):
        return SampledFrames(rgb=shrink(read_still(path), short_side_px)[None], pts=np.zeros(1, np.int64))
    images: list[np.ndarray] = []
    times: list[int] = []
    with VideoReader(path) as reader:
        convert: RgbConverter | None = None
        for frame in _shown_at(reader, span, moments(span, num_frames), deinterlace=deinterlace):
            if convert is None:
                shape = geometry(frame.decoded)
                convert = RgbConverter(shape, shape.scaled(short_side_px))
            images.append(convert(frame.image))
            times.append(frame.pts)
    if not images:
        raise MediaError(FailureKind.NO_FRAMES, f"{path} shows nothing in {span.start_s:.3f}-{span.end_s:.3f} s")
    return SampledFrames(rgb=np.stack(images), pts=np.array(times, np.int64))


def moments(span: Span, count: int) -> list[int]:
    """The middles of `count` equal parts of the span, in its time base."""
    ticks = span.end_pts - span.start_pts
    return [span.start_pts + ticks * (2 * part + 1) // (2 * count) for part in range(count)]


def _shown_at(reader: VideoReader, span: Span, wanted: list[int], *, deinterlace: bool) -> Iterator[TimedFrame]:
    """Each frame of the span that is shown at one of the wanted moments (increasing), once."""
    # A deinterlaced frame is made with the one before it.
    lead = int(NUM_LEADING / (reader.fps * span.time_base)) if deinterlace else 0
    last_pts: int | None = None
    for group in _groups(reader, span.time_base, wanted):
        pending, from_pts = group, max(span.start_pts, group[0] - lead)
        if deinterlace:
            frames = deinterlaced(reader.frames(span.time_base, from_pts=from_pts))
        else:
            frames = _frames(reader, span.time_base, from_pts, group)
        for frame in frames:
            if frame.pts + frame.duration <= pending[0]:
                continue
            if last_pts is None or frame.pts > last_pts:
                last_pts = frame.pts
                yield frame
            pending = [moment for moment in pending if moment >= frame.pts + frame.duration]
            if not pending:
                break


def _groups(reader: VideoReader, time_base: Fraction, wanted: list[int]) -> Iterator[list[int]]:
    """The moments in groups; each group is reached by one seek."""
    group = wanted[:1]
    for previous, moment in pairwise(wanted):
        if reader.can_enter_between(previous, moment, time_base):
            yield group
            group = []
        group.append(moment)
    yield group


def _frames(reader: VideoReader, time_base: Fraction, from_pts: int, wanted: list[int]) -> Iterator[TimedFrame]:
    """Frames from `from_pts` on, those at the wanted moments among them; the last ones can begin again at `from_pts`.

    Only a read of all frames tells what is wrong with a file.
    """
    if reader.can_skip and time_base == reader.stream_time_base:
        try:
            for frame in reader.sparse_frames(Unwanted(wanted), from_pts=from_pts):
                if not isinstance(frame, SkippedFrame):
                    yield frame
                elif any(frame.pts <= moment < frame.pts + frame.duration for moment in wanted):
                    break  # the packet's duration was wrong
            else:
                return
        except MediaError:
            pass
    yield from reader.frames(time_base, from_pts=from_pts)
