"""A clip (a member of a shard, or a local file) → pixels. The wanted frames are known before any is decoded, and
one of them is in memory at a time."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

import numpy as np

from curate.media.container import is_still
from curate.media.geometry import RgbConverter, geometry
from curate.media.limits import CEILING_PIXELS
from curate.media.still import STILL_TIME_BASE, read_still
from curate.media.stream import VideoReader
from curate.schema import FailureKind, MediaError

Size = tuple[int, int]
"""Height and width, px."""


def within_short_side(short_side_px: int) -> Callable[[int, int], Size]:
    """Height and width of a frame → those at which its short side is at most `short_side_px`; never enlarged."""

    def size(height: int, width: int) -> Size:
        scale = min(1.0, short_side_px / min(height, width))
        return max(1, round(height * scale)), max(1, round(width * scale))

    return size


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipTimes:
    """When the frames of a clip are shown, known without decoding.

    Attributes:
        pts: `(T,)` int64, increasing, in units of `time_base`.
        end_pts: When the last frame ends.
    """

    pts: np.ndarray
    end_pts: int
    time_base: Fraction

    @classmethod
    def of_packets(cls, shown: Iterable[tuple[int, int]], time_base: Fraction) -> Self:
        """Of the pts and durations (0 where unknown) of the packets that are shown, one at least, in any order."""
        packets = sorted(shown)
        pts = np.array([start for start, _ in packets], np.int64)
        last = packets[-1][1] or (pts[-1] - pts[-2] if len(pts) > 1 else 1)
        return cls(pts=pts, end_pts=int(pts[-1] + last), time_base=time_base)

    @property
    def starts_s(self) -> np.ndarray:
        """`(T,)` float64, seconds from the clip's start at which each frame is first shown."""
        return np.asarray((self.pts - self.pts[0]) * float(self.time_base))

    def at(self, fps: float | None) -> np.ndarray:
        """`(n,)` int64: numbers of the frames that are shown at the ticks of a clock of `fps`; a tick on a frame's
        start is in it, and frames repeat where the clip is slower. None: all frames."""
        if fps is None:
            return np.arange(len(self.pts))
        slack = 1e-6
        end_s = float((self.end_pts - int(self.pts[0])) * self.time_base)
        ticks_s = np.arange(max(1, int(np.ceil(end_s * fps - slack)))) / fps
        return np.searchsorted(self.starts_s, ticks_s + slack, side="right") - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodedClip:
    """Frames of a clip.

    Attributes:
        rgb: `(T, H, W, 3)` uint8.
        pts_s: `(T,)` float64, seconds from the clip's start at which each frame is first shown.
        indices: `(T,)` int64, the frames' numbers within the clip.
        num_source_frames: How many frames the clip has.
    """

    rgb: np.ndarray
    pts_s: np.ndarray
    indices: np.ndarray
    num_source_frames: int


def decode_clip(
    data: bytes,
    *,
    num_frames: int | None = None,
    size: Size | None = None,
    fps: float | None = None,
    max_frames: int | None = None,
    max_pixels: int = CEILING_PIXELS,
) -> DecodedClip:
    """Decodes an MP4 or a still image; all of the frames that are asked for are in memory at the same time.

    Args:
        data: The file's bytes.
        num_frames: Take this many, at the middles of equal parts; a clip with fewer gives each of its frames once.
        size: Size that frames are scaled to; None for the clip's own.
        fps: Resample to this rate, see `ClipTimes.at`.
        max_frames: Keep the first ones only (after `fps`, before `num_frames`).
        max_pixels: Of one frame.

    Raises:
        MediaError: The bytes are no video, are damaged, hold no frame, or frames that are too large.
        ValueError: A count, size or rate that is not positive.
    """
    for name, value in (("num_frames", num_frames), ("fps", fps), ("max_frames", max_frames)):
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name} must be positive, got {value}")
    for name, value in (("num_frames", num_frames), ("max_frames", max_frames)):
        if value is not None and value != int(value):
            raise ValueError(f"{name} must be a whole number, got {value}")
    if size is not None and min(size) < 1:
        raise ValueError(f"size must be positive, got {size}")
    times = clip_times(data, max_pixels=max_pixels)
    indices = times.at(None if len(times.pts) == 1 else fps)
    if max_frames is not None:
        indices = indices[:max_frames]
    if num_frames is not None:
        indices = indices[middles(len(indices), num_frames)]
    return DecodedClip(
        rgb=np.stack(list(clip_frames(data, times, indices, size, max_pixels=max_pixels))),
        pts_s=times.starts_s[indices],
        indices=indices.astype(np.int64),
        num_source_frames=len(times.pts),
    )


def clip_times(source: str | bytes, *, max_pixels: int = CEILING_PIXELS) -> ClipTimes:
    """Demuxes a clip, local path or bytes; a still image has one frame.

    Raises:
        MediaError: The source is no video, has no frame, or frames that are too large.
    """
    if is_still(source):
        return ClipTimes(pts=np.zeros(1, np.int64), end_pts=1, time_base=STILL_TIME_BASE)
    with VideoReader(source, max_pixels=max_pixels) as reader:
        shown = [(packet.pts, packet.duration or 0) for packet in reader.shown_packets() if packet.pts is not None]
        if not shown:
            raise MediaError(FailureKind.NO_FRAMES, f"{reader.name} has a video stream without frames")
        return ClipTimes.of_packets(shown, reader.stream_time_base)


def clip_frames(
    source: str | bytes,
    times: ClipTimes,
    indices: np.ndarray,
    size: Size | Callable[[int, int], Size] | None = None,
    *,
    max_pixels: int = CEILING_PIXELS,
) -> Iterator[np.ndarray]:
    """The frames with these numbers, `(H, W, 3)` uint8, one by one; decoding begins near the first of them.

    Args:
        source: Local path or bytes.
        times: Of this source.
        indices: `(n,)` int, which do not decrease and may repeat.
        size: To scale to, or a function of the clip's height and width that gives it; None for the clip's own.
        max_pixels: Of one frame.

    Raises:
        MediaError: The source is damaged, or has frames that are too large.
    """
    if is_still(source):
        rgb = _resized(read_still(source, max_pixels=max_pixels), size)
        for _ in indices:
            yield rgb
        return
    convert: RgbConverter | None = None
    wanted, done = times.pts[indices].tolist(), 0
    with VideoReader(source, max_pixels=max_pixels) as reader:
        for frame in reader.frames(reader.stream_time_base, from_pts=wanted[0]):
            if frame.pts < wanted[done]:
                continue
            if frame.pts > wanted[done]:
                break
            if convert is None:
                shape = geometry(frame.decoded)
                width, height = shape.scaled(None)
                to_height, to_width = size(height, width) if callable(size) else size or (height, width)
                convert = RgbConverter(shape, (to_width, to_height))
            rgb = convert(frame.image)
            while done < len(wanted) and wanted[done] == frame.pts:
                done += 1
                yield rgb
            if done == len(wanted):
                return
    raise MediaError(FailureKind.CORRUPT, f"the clip decodes to {done} of {len(wanted)} wanted frames")


def middles(length: int, count: int) -> np.ndarray:
    """The middles of `count` equal parts of `range(length)`, `(min(count, length),)` int64, increasing."""
    if count >= length:
        return np.arange(length)
    return ((np.arange(count) + 0.5) * length / count).astype(np.int64)


def _resized(rgb: np.ndarray, size: Size | Callable[[int, int], Size] | None) -> np.ndarray:
    import cv2

    to = size(*rgb.shape[:2]) if callable(size) else size
    if to is None:
        return rgb
    is_smaller = to[0] * to[1] < rgb.shape[0] * rgb.shape[1]
    return np.asarray(cv2.resize(rgb, to[::-1], interpolation=cv2.INTER_AREA if is_smaller else cv2.INTER_CUBIC))
