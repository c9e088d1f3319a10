"""What was written, read back: has the clip the frames of its source?"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from curate.media.decode import clip_times
from curate.media.geometry import RgbConverter, geometry
from curate.media.probe import color_tag
from curate.media.stream import VideoReader
from curate.schema import FailureKind, MediaError

if TYPE_CHECKING:
    from curate.media.clock import TimedFrame

THUMB_PX = 32
MAX_DIFFERENCE = 24.0
"""Mean difference of two small pictures, 0-255. The coarsest quality stays below; another shot is far above."""


def thumb_of(frame: "TimedFrame") -> np.ndarray:
    """`(32, 32, 3)` uint8: the whole frame, upright."""
    return RgbConverter(geometry(frame.decoded), (THUMB_PX, THUMB_PX))(frame.image)


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """A clip as a reader finds it: its size as shown, px, its codec and its pixels by FFmpeg's names."""

    width: int
    height: int
    codec: str
    pixel_format: str
    color_transfer: str


def check_written(path: str, data: bytes, num_frames: int, first: np.ndarray, last: np.ndarray) -> Written:
    """Compare a clip with its source.

    Args:
        path: Of the source, for messages.
        data: The clip's file.
        num_frames: What it should have.
        first: Of the first frame, as `thumb_of` gives it.
        last: Of the last frame.

    Raises:
        MediaError: MISMATCH.
    """
    from av.video.reformatter import ColorTrc

    times = clip_times(data)
    if len(times.pts) != num_frames:
        detail = f"{path}: the clip has {len(times.pts)} frames, its source {num_frames}"
        raise MediaError(FailureKind.MISMATCH, detail)
    with VideoReader(data) as reader:
        found: list[TimedFrame] = []
        for name, pts, expected in (("first", times.pts[0], first), ("last", times.pts[-1], last)):
            frame = next(reader.frames(reader.stream_time_base, from_pts=int(pts), is_work=False), None)
            if frame is None or frame.pts != pts:
                raise MediaError(FailureKind.MISMATCH, f"{path}: the {name} frame of the clip does not decode")
            difference = float(np.abs(thumb_of(frame).astype(np.int16) - expected).mean())
            if difference > MAX_DIFFERENCE:
                detail = f"the {name} frame of the clip differs from its source's by {difference:.0f} of 255"
                raise MediaError(FailureKind.MISMATCH, f"{path}: {detail}")
            found.append(frame)
        width, height = geometry(found[0].decoded).scaled(None)
        return Written(
            width=width,
            height=height,
            codec=reader.stream.codec_context.codec.canonical_name,
            pixel_format=found[0].image.format.name,
            color_transfer=color_tag(ColorTrc, found[0].image.color_trc),
        )
