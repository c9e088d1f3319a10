"""A span of a file → a file of its own: exactly the span's frames, at their own times."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from pydantic import Field

from curate.media.clock import TimedFrame
from curate.media.container import check_file, is_still_image, read_head
from curate.media.deinterlace import deinterlaced
from curate.media.encode import EncodeConfig, Mp4Encoder
from curate.media.errors import media_errors
from curate.media.frames import shrink
from curate.media.geometry import RgbConverter, geometry
from curate.media.still import encode_png, read_still
from curate.media.stream import VideoReader
from curate.schema import FailureKind, MediaError, Span

MAX_DURATION_TICKS = 2**31 - 1
"""The longest that MP4 lets one frame last, in its time base."""


class CutConfig(EncodeConfig):
    """How clips are written. Clips keep their frame times; only their size may change."""

    short_side_px: int | None = Field(
        default=None, ge=2, description="scale down to this short side; null keeps the size; nothing is ever enlarged"
    )
    deinterlace: bool = Field(
        default=False, description="make progressive frames of interlaced ones (bwdif); set score.deinterlace too"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedClip:
    """A clip as it goes into a shard: `data` is a file with the extension `ext`."""

    data: bytes
    ext: str
    num_frames: int
    width: int
    height: int
    fps: Fraction
    duration_s: float


def cut_clip(path: str, span: Span, config: CutConfig) -> EncodedClip:
    """Encodes the frames whose pts are in the span: H.264 in MP4, upright, square pixels, BT.709, no sound.

    A variable frame rate stays variable: each frame keeps its time. A still image becomes a PNG.

    Raises:
        MediaError: The kinds of `probe`, and CORRUPT, also for times that MP4 cannot hold; NO_FRAMES where the file
            shows nothing in the span.
    """
    check_file(path)
    if is_still_image(read_head(path)):
        rgb = shrink(read_still(path), config.short_side_px)
        height, width = rgb.shape[:2]
        return EncodedClip(
            data=encode_png(rgb), ext="png", num_frames=1, width=width, height=height, fps=Fraction(1), duration_s=0.0
        )
    with VideoReader(path) as reader:
        encoder: Mp4Encoder | None = None
        num_frames = duration = 0
        frames = _within(span, reader.frames(span.time_base, from_pts=span.start_pts))
        for frame in deinterlaced(frames) if config.deinterlace else frames:
            if encoder is None:
                shape = geometry(frame.decoded)
                size = shape.scaled(config.short_side_px, multiple_of=2)
                convert = RgbConverter(shape, size)
                encoder = Mp4Encoder(config, size=size, fps=reader.fps, time_base=span.time_base)
                first_pts = frame.pts
            if frame.duration > MAX_DURATION_TICKS:
                shown_s = float(frame.duration * span.time_base)
                raise MediaError(FailureKind.CORRUPT, f"{path}: a frame lasts {shown_s:.0f} s, too long for MP4")
            with media_errors(path, doing="encode", invalid=FailureKind.CORRUPT):
                encoder.add(convert(frame.image), pts=frame.pts - first_pts, duration=frame.duration)
            num_frames += 1
            duration = frame.pts - first_pts + frame.duration
        if encoder is None:
            raise MediaError(FailureKind.NO_FRAMES, f"{path} shows nothing in {span.start_s:.3f}-{span.end_s:.3f} s")
        with media_errors(path, doing="encode", invalid=FailureKind.CORRUPT):
            data = encoder.finish()
        width, height = size
        return EncodedClip(
            data=data,
            ext="mp4",
            num_frames=num_frames,
            width=width,
            height=height,
            fps=Fraction(num_frames) / (duration * span.time_base),
            duration_s=float(duration * span.time_base),
        )


def _within(span: Span, frames: Iterator[TimedFrame]) -> Iterator[TimedFrame]:
    """The frames whose pts are in the span."""
    for frame in frames:
        if frame.pts >= span.end_pts:
            return
        if frame.pts >= span.start_pts:
            yield frame
