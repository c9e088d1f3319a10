"""A file's content id, and the facts of its header."""

import hashlib
import io
from enum import IntEnum
from fractions import Fraction
from typing import TYPE_CHECKING

from curate.media.clock import counted_time_base
from curate.media.container import check_file, is_still_image, missing_bytes, read_head
from curate.media.counter import count_bytes
from curate.media.dolby import dolby_vision
from curate.media.errors import media_errors
from curate.media.geometry import geometry
from curate.media.joined import second_file
from curate.media.limits import CEILING_PIXELS, READ_LIMIT_S
from curate.media.still import probe_still
from curate.media.stream import VideoReader
from curate.schema import ID_HEX_DIGITS, FailureKind, MediaError, Video

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


def content_id(path: str) -> str:
    """First 128 bits of SHA-256 over the file's bytes, in hexadecimal: equal for equal bytes under any name.

    Raises:
        MediaError: MISSING, PERMISSION, NOT_MEDIA, EMPTY_FILE or IO.
    """
    check_file(path)
    with media_errors(path, doing="read", invalid=FailureKind.IO), _Counted(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:ID_HEX_DIGITS]


class _Counted(io.FileIO):
    """A file whose bytes are counted as they are read."""

    def readinto(self, buffer: "WriteableBuffer") -> int:
        num_bytes = super().readinto(buffer) or 0
        count_bytes(num_bytes)
        return num_bytes


def probe(
    path: str,
    uri: str,
    video_id: str,
    *,
    max_pixels: int = CEILING_PIXELS,
    time_limit_s: float | None = READ_LIMIT_S,
) -> Video:
    """Opens a local file, decodes its first frame, and returns its facts.

    Args:
        path: Where the bytes are on this machine.
        uri: Where the user's file is, for the record.
        video_id: `content_id(path)`.
        max_pixels: Of one frame.
        time_limit_s: Wall-clock seconds.

    Raises:
        MediaError: With the kind of the file's outcome: MISSING, PERMISSION, EMPTY_FILE, NOT_MEDIA, NO_VIDEO_STREAM,
            UNKNOWN_CODEC (also for Dolby Vision of profile 5, whose colors need a decoder of its own), NO_FRAMES,
            TRUNCATED, CORRUPT, TOO_LARGE, TIMEOUT or IO.
    """
    size_bytes = check_file(path)
    head = read_head(path)
    with media_errors(path, doing="open", invalid=FailureKind.IO):
        shortfall = missing_bytes(path)
    if shortfall is not None:
        raise MediaError(FailureKind.TRUNCATED, f"{path}: {shortfall}")
    if is_still_image(head):
        return probe_still(path, uri, video_id, size_bytes, max_pixels=max_pixels)
    with media_errors(path, doing="open", invalid=FailureKind.IO):
        dolby, joined_at = dolby_vision(path), second_file(path)
    if dolby is not None and not dolby[1]:
        detail = f"{path} is Dolby Vision of profile {dolby[0]}, whose colors only a decoder of Dolby's knows"
        raise MediaError(FailureKind.UNKNOWN_CODEC, f"{detail}; convert it to HDR10 or SDR")
    notes = [] if joined_at is None else [f"a second video begins at byte {joined_at} and is not read; split the file"]
    from av.video.reformatter import ColorPrimaries, ColorTrc

    with VideoReader(path, max_pixels=max_pixels, time_limit_s=time_limit_s) as reader:
        stream, container = reader.stream, reader.container
        first = next(reader.frames(counted_time_base(reader.fps)), None)
        if first is None:
            raise MediaError(FailureKind.NO_FRAMES, f"{path} has a {stream.codec_context.name} stream without frames")
        shape = geometry(first.decoded)
        width, height = shape.display_size
        return Video(
            video_id=video_id,
            uri=uri,
            size_bytes=size_bytes,
            kind="video",
            container=container.format.name,
            codec=stream.codec_context.name,
            width=width,
            height=height,
            fps=reader.fps,
            time_base=reader.stream_time_base,
            rotation=shape.rotation,
            mirrored=shape.mirrored,
            sample_aspect_ratio=Fraction(shape.sample_aspect_ratio),
            pixel_format=first.image.format.name,
            bit_depth=max(component.bits for component in first.image.format.components),
            color_transfer=color_tag(ColorTrc, first.image.color_trc),
            color_primaries=color_tag(ColorPrimaries, first.image.color_primaries),
            interlaced=first.image.interlaced_frame,
            num_frames=stream.frames or None,
            duration_s=reader.duration_s,
            has_audio=bool(container.streams.audio),
            video_stream=[video.index for video in container.streams.video].index(stream.index),
            num_video_streams=len(container.streams.video),
            dolby_vision=None if dolby is None else dolby[0],
            notes=tuple(notes),
        )


def color_tag(names: type[IntEnum], value: int) -> str:
    """FFmpeg's name for a color tag; "" for none and for one that has no name."""
    if value not in set(names) or names(value).name == "UNSPECIFIED":
        return ""
    return names(value).name.lower().replace("_", "-")
