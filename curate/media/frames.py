"""The one sequential pass over a file: every frame once, small, in RGB."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from curate.media.container import is_still_image
from curate.media.geometry import RgbConverter, geometry
from curate.media.prefetch import prefetch
from curate.media.still import read_still
from curate.media.stream import VideoReader
from curate.schema import FailureKind, MediaError

PREFETCHED_FRAMES = 8
"""Decoded ahead, at full size: 100 MB of 4K. Decoding overlaps with scaling and with what is done to the frames."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """One frame: shown in `[pts, pts + duration)`; `rgb` is `(h, w, 3)` uint8, upright, square pixels."""

    pts: int
    duration: int
    rgb: np.ndarray


def iter_frames(
    path: str, *, short_side_px: int, time_base: Fraction | None = None, time_limit_s: float | None = None
) -> Iterator[Frame]:
    """Decodes a file from its start to its end.

    Args:
        path: Local file.
        short_side_px: The short side of the frames, which keep their shape and are never enlarged.
        time_base: The clock: None for the stream's own, or `counted_time_base(fps)` (see `curate.media.stream`).
        time_limit_s: Wall-clock seconds from the first frame's request on.

    Raises:
        MediaError: The kinds of `probe`, CORRUPT for damage in the middle, TIMEOUT beyond `time_limit_s`.
        UnreliableTimestampsError: The stream's own times are missing or do not increase.
    """
    deadline = None if time_limit_s is None else time.monotonic() + time_limit_s
    with open(path, "rb") as file:
        head = file.read(16)
    if is_still_image(head):
        yield Frame(pts=0, duration=1, rgb=shrink(read_still(path), short_side_px))
        return
    with VideoReader(path) as reader:
        convert: RgbConverter | None = None
        clock = reader.stream_time_base if time_base is None else time_base
        for frame in prefetch(reader.frames(clock), PREFETCHED_FRAMES):
            if deadline is not None and time.monotonic() > deadline:
                raise MediaError(FailureKind.TIMEOUT, f"{path} took more than {time_limit_s} s")
            if convert is None:
                shape = geometry(frame.image, reader.stream.sample_aspect_ratio)
                convert = RgbConverter(shape, shape.scaled(short_side_px))
            yield Frame(pts=frame.pts, duration=frame.duration, rgb=convert(frame.image))


def shrink(rgb: np.ndarray, short_side_px: int | None) -> np.ndarray:
    """`(H, W, 3)` uint8, made smaller by area averaging until its short side is at most `short_side_px`."""
    import cv2

    height, width = rgb.shape[:2]
    if short_side_px is None or min(height, width) <= short_side_px:
        return rgb
    scale = short_side_px / min(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA))
