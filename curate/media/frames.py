"""The one sequential pass over a file: every frame once, small, in RGB."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from curate.media.clock import TimedFrame
from curate.media.container import is_still_image, read_head
from curate.media.geometry import Geometry, RgbConverter, geometry, still_geometry
from curate.media.limits import CEILING_PIXELS, READ_LIMIT_S
from curate.media.prefetch import prefetch
from curate.media.still import read_still
from curate.media.stream import VideoReader

PREFETCHED_FRAMES = 8
"""Decoded and scaled ahead, which overlaps with what is done to the frames. The thread that decodes a frame scales it,
while the processor's cache holds it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """One frame: shown in `[pts, pts + duration)`; `rgb` is `(h, w, 3)` uint8, upright, square pixels.

    `shape` is the geometry before scaling, which can change within a stream. `interlaced` is the decoder's flag.
    """

    pts: int
    duration: int
    rgb: np.ndarray
    shape: Geometry
    interlaced: bool = False


def iter_frames(
    path: str,
    *,
    short_side_px: int,
    time_base: Fraction | None = None,
    from_pts: int | None = None,
    time_limit_s: float | None = READ_LIMIT_S,
    max_pixels: int = CEILING_PIXELS,
) -> Iterator[Frame]:
    """Decodes a file to its end.

    Args:
        path: Local file.
        short_side_px: The short side of the frames, which keep their shape and are never enlarged.
        time_base: The clock: None for the stream's own, or `counted_time_base(fps)` (see `curate.media.stream`).
        from_pts: Begin with the frame that is shown at this time of the clock; None: with the first one.
        time_limit_s: Wall-clock seconds from the first frame's request on, checked at every packet.
        max_pixels: Of one frame.

    Raises:
        MediaError: The kinds of `probe`, CORRUPT for damage in the middle, TIMEOUT beyond `time_limit_s`, TOO_LARGE.
        UnreliableTimestampsError: The stream's own times are missing or do not increase.
    """
    if is_still_image(read_head(path)):
        rgb = read_still(path, max_pixels=max_pixels)
        yield Frame(pts=0, duration=1, rgb=shrink(rgb, short_side_px), shape=still_geometry(rgb))
        return
    with VideoReader(path, time_limit_s=time_limit_s, max_pixels=max_pixels) as reader:
        clock = reader.stream_time_base if time_base is None else time_base
        yield from prefetch(_small(reader.frames(clock, from_pts=from_pts), short_side_px), PREFETCHED_FRAMES)


def _small(frames: Iterator[TimedFrame], short_side_px: int) -> Iterator[Frame]:
    shape: Geometry | None = None
    for frame in frames:
        if (found := geometry(frame.decoded)) != shape:
            shape = found
            convert = RgbConverter(shape, shape.scaled(short_side_px), in_two_steps=True)
        yield Frame(
            pts=frame.pts,
            duration=frame.duration,
            rgb=convert(frame.image),
            shape=shape,
            interlaced=frame.image.interlaced_frame,
        )


def shrink(rgb: np.ndarray, short_side_px: int | None) -> np.ndarray:
    """`(H, W, 3)` uint8, made smaller by area averaging until its short side is at most `short_side_px`."""
    import cv2

    height, width = rgb.shape[:2]
    if short_side_px is None or min(height, width) <= short_side_px:
        return rgb
    scale = short_side_px / min(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA))
