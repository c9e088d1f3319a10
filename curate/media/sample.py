"""A few frames of a span: exactly those that are shown at evenly spaced times."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from curate.media.clock import TimedFrame
from curate.media.container import check_file, is_still_image, read_head
from curate.media.deinterlace import deinterlaced
from curate.media.frames import shrink
from curate.media.geometry import RgbConverter, geometry
from curate.media.still import read_still
from curate.media.stream import VideoReader
from curate.schema import FailureKind, MediaError, Span

SEEK_GAP_S = 4.0
"""Times further apart than this, in seconds, are sought one by one; between nearer ones all frames are decoded."""

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
    if is_still_image(read_head(path)):
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
    groups: list[list[int]] = []
    for moment in wanted:
        if groups and (moment - groups[-1][-1]) * span.time_base <= SEEK_GAP_S:
            groups[-1].append(moment)
        else:
            groups.append([moment])
    # A deinterlaced frame is made with the one before it.
    lead = int(NUM_LEADING / (reader.fps * span.time_base)) if deinterlace else 0
    last_pts: int | None = None
    for group in groups:
        pending = list(group)
        frames = reader.frames(span.time_base, from_pts=max(span.start_pts, pending[0] - lead))
        for frame in deinterlaced(frames) if deinterlace else frames:
            if frame.pts + frame.duration <= pending[0]:
                continue
            if last_pts is None or frame.pts > last_pts:
                last_pts = frame.pts
                yield frame
            pending = [moment for moment in pending if moment >= frame.pts + frame.duration]
            if not pending:
                break
