"""A clip's bytes (a member of a shard) → pixels."""

from dataclasses import dataclass

import numpy as np

from curate.media.container import HEAD_BYTES, is_still_image
from curate.media.geometry import RgbConverter, geometry
from curate.media.limits import CEILING_PIXELS
from curate.media.still import read_still
from curate.media.stream import VideoReader
from curate.schema import FailureKind, MediaError


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
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    max_frames: int | None = None,
    max_pixels: int = CEILING_PIXELS,
) -> DecodedClip:
    """Decodes an MP4 or a still image.

    Args:
        data: The file's bytes.
        num_frames: Take this many, at the middles of equal parts; a clip with fewer gives each of its frames once.
        size: `(height, width)` to scale to, whatever the clip's shape; None for the clip's own.
        fps: Resample to this rate: at each tick the frame that is shown then. Frames repeat where the clip is slower.
        max_frames: Keep the first ones only (after `fps`, before `num_frames`).
        max_pixels: Of one picture.

    Raises:
        MediaError: The bytes are no video, are damaged, hold no frame, or pictures that are too large.
        ValueError: A count, size or rate that is not positive.
    """
    for name, value in (("num_frames", num_frames), ("fps", fps), ("max_frames", max_frames)):
        if value is not None and value <= 0:
            raise ValueError(f"{name} must be positive, got {value}")
    if size is not None and min(size) < 1:
        raise ValueError(f"size must be positive, got {size}")
    if is_still_image(data[:HEAD_BYTES]):
        return _decode_still(data, size, max_pixels)
    starts_s, end_s = _frame_times(data, max_pixels)
    indices = np.arange(len(starts_s)) if fps is None else _at_rate(starts_s, end_s, fps)
    if max_frames is not None:
        indices = indices[:max_frames]
    if num_frames is not None:
        indices = indices[middles(len(indices), num_frames)]
    return DecodedClip(
        rgb=_read(data, indices, size),
        pts_s=starts_s[indices],
        indices=indices.astype(np.int64),
        num_source_frames=len(starts_s),
    )


def middles(length: int, count: int) -> np.ndarray:
    """The middles of `count` equal parts of `range(length)`; all of it where `count` is not smaller."""
    if count >= length:
        return np.arange(length)
    return ((np.arange(count) + 0.5) * length / count).astype(np.int64)


def _decode_still(data: bytes, size: tuple[int, int] | None, max_pixels: int) -> DecodedClip:
    import cv2

    rgb = read_still(data, max_pixels=max_pixels)
    if size is not None:
        is_smaller = size[0] * size[1] < rgb.shape[0] * rgb.shape[1]
        rgb = np.asarray(cv2.resize(rgb, size[::-1], interpolation=cv2.INTER_AREA if is_smaller else cv2.INTER_CUBIC))
    return DecodedClip(rgb=rgb[None], pts_s=np.zeros(1), indices=np.zeros(1, np.int64), num_source_frames=1)


def _frame_times(data: bytes, max_pixels: int) -> tuple[np.ndarray, float]:
    """When each frame is first shown, from the first one on, and when the last one ends; seconds. Decodes nothing."""
    with VideoReader(data, max_pixels=max_pixels) as reader:
        shown = sorted((packet.pts, packet.duration or 0) for packet in reader.shown_packets())
        if not shown:
            raise MediaError(FailureKind.NO_FRAMES, "the clip has a video stream without frames")
        starts = np.array([pts for pts, _ in shown], np.int64)
        last = shown[-1][1] or (starts[-1] - starts[-2] if len(starts) > 1 else 1)
        time_base = float(reader.stream_time_base)
        return (starts - starts[0]) * time_base, float(starts[-1] - starts[0] + last) * time_base


def _at_rate(starts_s: np.ndarray, end_s: float, fps: float) -> np.ndarray:
    """Numbers of the frames that are shown at the ticks of a clock of `fps`; a tick on a frame's start is in it."""
    slack = 1e-6
    ticks_s = np.arange(max(1, int(np.ceil(end_s * fps - slack)))) / fps
    return np.searchsorted(starts_s, ticks_s + slack, side="right") - 1


def _read(data: bytes, indices: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """`(T, H, W, 3)`: the frames with these numbers, which increase and may repeat."""
    wanted = set(indices.tolist())
    pictures: dict[int, np.ndarray] = {}
    convert: RgbConverter | None = None
    with VideoReader(data) as reader:
        for number, frame in enumerate(reader.frames(reader.stream_time_base)):
            if number not in wanted:
                continue
            if convert is None:
                shape = geometry(frame.picture)
                convert = RgbConverter(shape, shape.scaled(None) if size is None else size[::-1])
            pictures[number] = convert(frame.image)
            if len(pictures) == len(wanted):
                break
    if len(pictures) < len(wanted):
        raise MediaError(FailureKind.CORRUPT, f"the clip decodes to {len(pictures)} of {len(wanted)} wanted frames")
    return np.stack([pictures[index] for index in indices.tolist()])
