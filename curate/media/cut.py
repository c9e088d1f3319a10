"""Spans of a file → files of their own: exactly the span's frames, at their own times."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field, model_validator

from curate.media.clock import TimedFrame
from curate.media.codecs import EncodeConfig
from curate.media.container import check_file, is_still
from curate.media.counter import count_frame
from curate.media.deinterlace import deinterlaced
from curate.media.encode import Mp4Encoder
from curate.media.errors import media_errors
from curate.media.frames import shrink
from curate.media.geometry import Geometry, RgbConverter, geometry
from curate.media.kept import kept_png, kept_sound
from curate.media.planes import BT709, kept_coding
from curate.media.remux import Mp4Copier, packets_within
from curate.media.sound import SoundTrack
from curate.media.sound_tracks import AddedSound, add_sound
from curate.media.still import encode_png, read_still
from curate.media.stream import VideoReader
from curate.media.written import Written, check_written, thumb_of
from curate.schema import FailureKind, MediaError, Span

if TYPE_CHECKING:
    from av.container import OutputContainer

MAX_DURATION_TICKS = 2**31 - 1
"""The longest that MP4 lets one frame last, in its time base."""
LONGEST_GAP_S = 4.0
"""Between two spans, which is decoded rather than sought over."""


class CutConfig(EncodeConfig):
    """How clips are written. Clips keep their frame times; only their size may change."""

    short_side_px: int | None = Field(
        default=None, ge=2, description="scale down to this short side; null keeps the size; nothing is ever enlarged"
    )
    deinterlace: bool = Field(
        default=False, description="make progressive frames of interlaced ones (bwdif); set score.deinterlace too"
    )
    keep_depth: bool = Field(
        default=False,
        description="keep 10 bits and HDR where nothing is scaled or turned; else 8 bits, PQ tone-mapped to SDR",
    )
    mode: Literal["encode", "copy"] = Field(
        default="encode",
        description="copy: the source's packets, from the first key frame of the span on; without loss and much "
        "faster, but clips get shorter; of a whole MP4 or plain PNG its very bytes",
    )
    audio: Literal["none", "copy", "aac"] = Field(
        default="aac",
        description="the main sound track: left out, the source's packets (aac, mp3, ac3, eac3, opus, flac, alac; "
        "others are encoded), or encoded",
    )

    @model_validator(mode="after")
    def _copied_frames_stay_as_they_are(self) -> "CutConfig":
        if self.mode == "copy" and (self.short_side_px is not None or self.deinterlace):
            raise ValueError("mode copy takes frames as they are: leave short_side_px and deinterlace out, or encode")
        return self


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedClip:
    """A clip as it goes into a shard: `data` is a file with the extension `ext`.

    Attributes:
        span: What it shows of its source: the span that was asked for, or in mode copy a part of it.
        sound: Its sound track, which lasts `sound_s`.
    """

    data: bytes
    ext: str
    num_frames: int
    written: Written
    fps: Fraction
    duration_s: float
    span: Span
    sound: SoundTrack | None = None
    sound_s: float = 0.0

    @property
    def width(self) -> int:
        return self.written.width

    @property
    def height(self) -> int:
        return self.written.height


def cut_clip(path: str, span: Span, config: CutConfig) -> EncodedClip:
    """Encodes the frames whose pts are in the span: MP4, upright, square pixels, with their sound.

    Pixels that need not change are encoded as they were decoded, with their own color tags; others become BT.709. A
    variable frame rate stays variable: each frame keeps its time. A still image becomes a PNG.

    Raises:
        MediaError: The kinds of `probe`, and CORRUPT, also for times that MP4 cannot hold; NO_FRAMES where the file
            shows nothing in the span.
    """
    (result,) = cut_clips(path, [span], config)
    if isinstance(result, MediaError):
        raise result
    return result


def cut_clips(path: str, spans: Sequence[Span], config: CutConfig) -> Iterator[EncodedClip | MediaError]:
    """What `cut_clip` gives for each of the spans, or raises. Spans that follow each other closely are decoded in one
    pass.

    Args:
        path: A local file.
        spans: In order of time, of one time base.
        config: How they are encoded.

    Raises:
        MediaError: The file cannot be opened.
    """
    check_file(path)
    if is_still(path):
        yield from (_still(path, span, config) for span in spans)
        return
    with VideoReader(path) as reader:
        if config.mode == "copy":
            yield from (_copy_attempt(path, span, reader, config) for span in spans)
            return
        passing: _Pass | None = None
        for span in spans:
            is_shared = passing is not None and passing.leads_to(span)
            if passing is None or not is_shared:
                passing = _Pass(reader, span)
            result = _attempt(path, span, passing, reader.fps, config)
            if isinstance(result, MediaError):
                passing = None
                if is_shared:  # what is between the spans may be to blame
                    result = _attempt(path, span, _Pass(reader, span), reader.fps, config)
            yield result


def _still(path: str, span: Span, config: CutConfig) -> EncodedClip:
    rgb = shrink(read_still(path), config.short_side_px)
    height, width = rgb.shape[:2]
    kept = kept_png(path, rgb) if config.mode == "copy" else None
    return EncodedClip(
        data=encode_png(rgb) if kept is None else kept,
        ext="png",
        num_frames=1,
        written=Written(width=width, height=height, codec="png", pixel_format="rgb24", color_transfer=""),
        fps=Fraction(1),
        duration_s=0.0,
        span=span,
    )


class _Pass:
    """Frames from a span's first one on, for this span and those after it."""

    def __init__(self, reader: VideoReader, span: Span) -> None:
        self._frames = reader.frames(span.time_base, from_pts=span.start_pts)
        self._reached = span.start_pts
        self._returned: TimedFrame | None = None

    def leads_to(self, span: Span) -> bool:
        """Whether the span begins soon."""
        return 0 <= (span.start_pts - self._reached) * span.time_base <= LONGEST_GAP_S

    def within(self, span: Span) -> Iterator[TimedFrame]:
        """The frames whose pts are in the span."""
        while frame := self._returned or next(self._frames, None):
            self._returned = frame
            if frame.pts >= span.end_pts:
                break
            self._returned = None
            if frame.pts >= span.start_pts:
                yield frame
        self._reached = span.end_pts


def _attempt(path: str, span: Span, passing: _Pass, fps: Fraction, config: CutConfig) -> EncodedClip | MediaError:
    try:
        return _encoded(path, span, passing.within(span), fps, config)
    except MediaError as error:
        return error


def _encoded(path: str, span: Span, frames: Iterator[TimedFrame], fps: Fraction, config: CutConfig) -> EncodedClip:
    pictures: _Pictures | None = None
    last: TimedFrame | None = None
    num_frames = duration = first_pts = 0
    for frame in deinterlaced(frames) if config.deinterlace else frames:
        if pictures is None:
            pictures, first = _Pictures(frame, fps, span.time_base, config), thumb_of(frame)
            first_pts = frame.pts
        if frame.duration > MAX_DURATION_TICKS:
            shown_s = float(frame.duration * span.time_base)
            raise MediaError(FailureKind.CORRUPT, f"{path}: a frame lasts {shown_s:.0f} s, too long for MP4")
        with media_errors(path, doing="encode", invalid=FailureKind.CORRUPT):
            pictures.add(frame, frame.pts - first_pts)
        num_frames += 1
        last, duration = frame, frame.pts - first_pts + frame.duration
    if pictures is None or last is None:
        raise MediaError(FailureKind.NO_FRAMES, f"{path} shows nothing in {span.start_s:.3f}-{span.end_s:.3f} s")
    with media_errors(path, doing="encode", invalid=FailureKind.CORRUPT):
        sound = _sound(pictures.encoder.container, path, span, config)
        data = pictures.encoder.finish(sound.packets if sound else ())
    written = check_written(path, data, num_frames, first, thumb_of(last))
    return EncodedClip(
        data=data,
        ext="mp4",
        num_frames=num_frames,
        written=written,
        fps=Fraction(num_frames) / (duration * span.time_base),
        duration_s=float(duration * span.time_base),
        span=span,
        sound=sound.track if sound else None,
        sound_s=sound.duration_s if sound else 0.0,
    )


def _sound(container: "OutputContainer", path: str, span: Span, config: CutConfig) -> AddedSound | None:
    return None if config.audio == "none" else add_sound(container, path, span, copy=config.audio == "copy")


def _copy_attempt(path: str, span: Span, reader: VideoReader, config: CutConfig) -> EncodedClip | MediaError:
    try:
        return _copied(path, span, reader, config)
    except MediaError as error:
        return error


def _copied(path: str, span: Span, reader: VideoReader, config: CutConfig) -> EncodedClip:
    copied = packets_within(reader, span)
    with media_errors(path, doing="copy", invalid=FailureKind.CORRUPT):
        kept = kept_sound(path, reader, copied, config.audio)
        if kept is not None:
            data, (track, sound_s) = Path(path).read_bytes(), kept
        else:
            copier = Mp4Copier(reader, copied)
            sound = _sound(copier.container, path, copied.span, config)
            data = copier.finish(sound.packets if sound else ())
            track, sound_s = (sound.track, sound.duration_s) if sound else (None, 0.0)
    first, last = (_shown(path, reader, pts) for pts in copied.ends)
    written = check_written(path, data, len(copied.packets), first, last)
    duration = copied.span.end_pts - copied.span.start_pts
    for _ in copied.packets:
        count_frame(copied.span.duration_s / len(copied.packets))
    return EncodedClip(
        data=data,
        ext="mp4",
        num_frames=len(copied.packets),
        written=written,
        fps=Fraction(len(copied.packets)) / (duration * span.time_base),
        duration_s=copied.span.duration_s,
        span=copied.span,
        sound=track,
        sound_s=sound_s,
    )


def _shown(path: str, reader: VideoReader, pts: int) -> np.ndarray:
    """The source's frame at this time, small."""
    frame = next(reader.frames(reader.stream_time_base, from_pts=pts, is_work=False), None)
    if frame is None or frame.pts != pts:
        raise MediaError(FailureKind.CORRUPT, f"{path}: the frame at pts {pts} does not decode")
    return thumb_of(frame)


class _Pictures:
    """The pictures of a clip, whose size and coding its first frame decides."""

    def __init__(self, first: TimedFrame, fps: Fraction, time_base: Fraction, config: CutConfig) -> None:
        self._shape: Geometry = geometry(first.decoded)
        self.size = self._shape.scaled(config.short_side_px, multiple_of=2)
        self._coding = kept_coding(first.image, self._shape, self.size, deep=config.keep_depth) or BT709
        self._convert, self._deep = RgbConverter(self._shape, self.size), config.keep_depth
        self.encoder = Mp4Encoder(config, size=self.size, fps=fps, time_base=time_base, coding=self._coding)

    def add(self, frame: TimedFrame, pts: int) -> None:
        if kept_coding(frame.image, self._shape, self.size, deep=self._deep) == self._coding:
            self.encoder.add_planes(frame.image, pts=pts, duration=frame.duration)
        else:
            self.encoder.add(self._convert(frame.image), pts=pts, duration=frame.duration)
