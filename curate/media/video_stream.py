"""Which video stream of a file is the main one: cameras and editors add thumbnails, proxies and covers."""

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, cast

from curate.schema import FailureKind, MediaError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

MAIN_SHARE = 0.5
"""A stream that is shorter than this share of the longest is not the main one."""

AS_LONG_SHARE = 0.9
"""Streams of about one length are compared by size."""

MAX_PACKETS = 2000
"""Most packets that are read where a container does not declare the durations of its streams."""

MAIN_PACKETS = 8
"""A stream with so many packets continues; one with at most two packets by then is a still image."""


def choose_main_stream(name: str, container: "InputContainer") -> "tuple[VideoStream, bool]":
    """The main stream. Covers and short streams are left out; of the others it is the one marked as default, or else
    the longest, or among equally long ones the largest, or the first.

    Args:
        name: For messages.
        container: An open file, at its start.

    Returns:
        The stream, and whether packets were read to find it.

    Raises:
        MediaError: NO_VIDEO_STREAM, or UNKNOWN_CODEC where no such stream has a decoder.
    """
    from av.stream import Disposition as D

    covers = D.attached_pic | D.timed_thumbnails | D.still_image | D.dependent | D.metadata
    streams = [cast("VideoStream", s) for s in container.streams if s.type == "video" and not s.disposition & covers]
    if not streams:
        kinds = ", ".join(sorted({stream.type or "unknown" for stream in container.streams})) or "none"
        raise MediaError(FailureKind.NO_VIDEO_STREAM, f"{name} has no video stream; its streams: {kinds}")
    lengths_s = [_declared_s(stream) for stream in streams]
    has_read = len(streams) > 1 and None in lengths_s
    single_frame = _single_frame_streams(container, streams) if has_read else set()
    known_s = {
        stream.index: _estimated_s(stream, container) if length_s is None else length_s
        for stream, length_s in zip(streams, lengths_s, strict=True)
        if stream.index not in single_frame
    }
    longest_s = max(known_s.values())

    def rank(stream: "VideoStream") -> tuple[bool, bool, bool, bool, int]:
        length_s = known_s[stream.index]
        return (
            length_s >= longest_s * MAIN_SHARE,
            stream.codec_context is not None,
            bool(stream.disposition & D.default),
            length_s >= longest_s * AS_LONG_SHARE,
            0 if stream.codec_context is None else stream.codec_context.width * stream.codec_context.height,
        )

    main = max((stream for stream in streams if stream.index in known_s), key=rank)  # the first of equals
    if main.codec_context is None:
        raise MediaError(FailureKind.UNKNOWN_CODEC, f"{name}: no decoder for its video stream")
    return main, has_read


def _declared_s(stream: "VideoStream") -> float | None:
    """The stream's duration by the container, in seconds; None where it declares none, or declares no number of frames
    and can have estimated the duration."""
    tagged_s = _tagged_s(stream)
    if tagged_s is not None:
        return tagged_s
    if stream.frames == 1:
        return 0.0
    if stream.frames and stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return None


def _estimated_s(stream: "VideoStream", container: "InputContainer") -> float:
    """The duration that libav estimates from the first and last times of the stream, or else of the file, seconds."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return (container.duration or 0) / 1e6


def _tagged_s(stream: "VideoStream") -> float | None:
    """Matroska's tag of a stream's duration, "00:00:02.040000000"; writers add the language to its name."""
    text = next((value for key, value in stream.metadata.items() if key.upper().startswith("DURATION")), "")
    try:
        hours, minutes, seconds = text.split(":")
        return float(int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds.strip()))
    except ValueError:
        return None


def _single_frame_streams(container: "InputContainer", streams: "Sequence[VideoStream]") -> set[int]:
    """Indices of the streams that end after one frame while another continues."""
    from av.error import FFmpegError

    counts = Counter({stream.index: 0 for stream in streams})
    try:
        for number, packet in enumerate(container.demux(*streams)):
            counts[packet.stream.index] += bool(packet.size)
            if number > MAX_PACKETS or min(counts.values()) >= MAIN_PACKETS:
                break
    except FFmpegError:  # damage is for the reader to find
        pass
    if max(counts.values()) < MAIN_PACKETS:
        return set()
    return {index for index, count in counts.items() if count <= 2}  # a frame of two fields may have two
