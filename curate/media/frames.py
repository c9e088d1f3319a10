"""The one sequential pass over a file: every frame once, small, in RGB."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from curate.media.clock import SkippedFrame, TimedFrame
from curate.media.container import is_still
from curate.media.geometry import Geometry, RgbConverter, geometry, still_geometry
from curate.media.limits import CEILING_PIXELS, READ_LIMIT_S
from curate.media.prefetch import prefetch
from curate.media.skipping import MAX_GAP_S, NotSkippableError, Quiet
from curate.media.still import read_still
from curate.media.stream import VideoReader

MOST_AT_ONCE = 24
BYTES_AT_ONCE = 4 * 2**20
"""Frames that are decoded and scaled in a thread of its own, which overlaps with what is done to them, and handed over
together. The thread that decodes a frame scales it, while the processor's cache holds it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """One frame: shown in `[pts, pts + duration)`; `rgb` is `(h, w, 3)` uint8, upright, square pixels.

    `shape` is the geometry before scaling, which can change within a stream. `interlaced` is the decoder's flag.
    `is_skipped`: the frame was not decoded; `rgb` is a mean of the decoded frames before and after it, by their times.
    """

    pts: int
    duration: int
    rgb: np.ndarray
    shape: Geometry
    interlaced: bool = False
    is_skipped: bool = False


def iter_frames(
    path: str,
    *,
    short_side_px: int,
    time_base: Fraction | None = None,
    from_pts: int | None = None,
    time_limit_s: float | None = READ_LIMIT_S,
    max_pixels: int = CEILING_PIXELS,
    is_sparse: bool = False,
) -> Iterator[Frame]:
    """Decodes a file to its end.

    Args:
        path: Local file.
        short_side_px: The short side of the frames, which keep their shape and are never enlarged.
        time_base: The clock: None for the stream's own, or `counted_time_base(fps)` (see `curate.media.stream`).
        from_pts: Begin with the frame that is shown at this time of the clock; None: with the first one.
        time_limit_s: Wall-clock seconds from the first frame's request on, checked at every packet.
        max_pixels: Of one frame.
        is_sparse: Skip frames (`curate.media.skipping`); `time_base` must be the stream's own.

    Raises:
        MediaError: The kinds of `probe`, CORRUPT for damage in the middle, TIMEOUT beyond `time_limit_s`, TOO_LARGE.
        UnreliableTimestampsError: The stream's own times are missing or do not increase.
        NotSkippableError: The file is to be decoded in full.
    """
    if is_still(path):
        rgb = read_still(path, max_pixels=max_pixels)
        yield Frame(pts=0, duration=1, rgb=shrink(rgb, short_side_px), shape=still_geometry(rgb))
        return
    with VideoReader(path, time_limit_s=time_limit_s, max_pixels=max_pixels, is_sparse=is_sparse) as reader:
        clock = reader.stream_time_base if time_base is None else time_base
        if is_sparse:
            assert clock == reader.stream_time_base
            frames = _sparse(reader, short_side_px, from_pts)
        else:
            frames = map(_Scaling(short_side_px), reader.frames(clock, from_pts=from_pts))
        at_once = max(1, min(MOST_AT_ONCE, BYTES_AT_ONCE // (6 * short_side_px**2)))  # of frames of 2:1
        yield from prefetch(frames, 2 * at_once, at_once=at_once)


class _Scaling:
    """Decoded frames → small ones."""

    def __init__(self, short_side_px: int) -> None:
        self._short_side_px = short_side_px
        self._shape: Geometry | None = None

    def __call__(self, frame: TimedFrame) -> Frame:
        if (shape := geometry(frame.decoded)) != self._shape:
            self._shape = shape
            self._convert = RgbConverter(shape, shape.scaled(self._short_side_px), in_two_steps=True)
        return Frame(
            pts=frame.pts,
            duration=frame.duration,
            rgb=self._convert(frame.image),
            shape=shape,
            interlaced=frame.image.interlaced_frame,
        )


def _sparse(reader: VideoReader, short_side_px: int, from_pts: int | None) -> Iterator[Frame]:
    """Decoded frames, and between them means for those that were skipped."""
    scale, max_gap = _Scaling(short_side_px), MAX_GAP_S / reader.stream_time_base
    before: Frame | None = None
    skipped: list[SkippedFrame] = []
    for frame in reader.sparse_frames(Quiet(reader.stream_time_base), from_pts=from_pts):
        if from_pts is not None and frame.pts + frame.duration <= from_pts - max_gap:
            continue
        if isinstance(frame, SkippedFrame):
            skipped.append(frame)
            continue
        now = scale(frame)
        if skipped and before is not None and now.pts - before.pts > max_gap:
            raise NotSkippableError(f"no frame from {before.pts} to {now.pts} was decoded")
        for small in (*(_between(before or now, now, one) for one in skipped), now):
            if from_pts is None or small.pts + small.duration > from_pts:
                yield small
        before, skipped = now, []
    if before is not None:
        yield from (_between(before, before, one) for one in skipped)


def _between(before: Frame, after: Frame, skipped: SkippedFrame) -> Frame:
    import cv2

    rgb = before.rgb
    if before.pts < skipped.pts < after.pts and before.shape == after.shape:
        # In 256ths, whose products with pixels are exact: no machine rounds them differently.
        share = round(256 * (skipped.pts - before.pts) / (after.pts - before.pts)) / 256
        rgb = np.asarray(cv2.addWeighted(before.rgb, 1 - share, after.rgb, share, 0))
    return replace(before, pts=skipped.pts, duration=skipped.duration, rgb=rgb, is_skipped=True)


def shrink(rgb: np.ndarray, short_side_px: int | None) -> np.ndarray:
    """`(H, W, 3)` uint8, made smaller by area averaging until its short side is at most `short_side_px`."""
    import cv2

    height, width = rgb.shape[:2]
    if short_side_px is None or min(height, width) <= short_side_px:
        return rgb
    scale = short_side_px / min(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA))
