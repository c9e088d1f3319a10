"""Which of a file's video streams is the film: cameras and editors add thumbnails, proxies and covers."""

from fractions import Fraction
from typing import TYPE_CHECKING, cast

from curate.schema import FailureKind, MediaError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.stream import Stream
    from av.video.stream import VideoStream

PICTURE_CODECS = frozenset({"mjpeg", "png", "bmp", "gif", "webp", "tiff"})
"""Of covers, where a container does not say how long a stream is."""

FILM_SHARE = 0.5
"""A stream that is shorter than this share of the longest is no film."""

AS_LONG_SHARE = 0.9
"""Streams of about one length are compared by size."""


def choose_film(name: str, container: "InputContainer") -> "VideoStream":
    """The film: of the streams that are no covers and last long enough, the one that is marked as default, or else the
    longest, or of those the largest, or the first.

    Args:
        name: For messages.
        container: An open file.

    Raises:
        MediaError: NO_VIDEO_STREAM, or UNKNOWN_CODEC where no film has a decoder.
    """
    from av.stream import Disposition as D

    covers = D.attached_pic | D.timed_thumbnails | D.still_image | D.dependent | D.metadata
    streams = [cast("VideoStream", s) for s in container.streams if s.type == "video" and not s.disposition & covers]
    if not streams:
        kinds = ", ".join(sorted({stream.type or "unknown" for stream in container.streams})) or "none"
        raise MediaError(FailureKind.NO_VIDEO_STREAM, f"{name} has no video stream; its streams: {kinds}")
    lengths_s = {stream.index: _length_s(stream, container) for stream in streams}
    longest_s = max(lengths_s.values())

    def rank(stream: "VideoStream") -> tuple[bool, bool, bool, bool, int]:
        length_s = lengths_s[stream.index]
        return (
            length_s >= longest_s * FILM_SHARE,
            stream.codec_context is not None,
            bool(stream.disposition & D.default),
            length_s >= longest_s * AS_LONG_SHARE,
            0 if stream.codec_context is None else stream.codec_context.width * stream.codec_context.height,
        )

    film = max(streams, key=rank)  # the first of equals
    if film.codec_context is None:
        raise MediaError(FailureKind.UNKNOWN_CODEC, f"{name}: no decoder for its video stream")
    return film


def _length_s(stream: "VideoStream", container: "InputContainer") -> float:
    """What the container declares of this stream; of the file, where it declares nothing of the stream."""
    if stream.frames == 1:
        return 0.0
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    tagged_s = _tagged_s(stream)
    if tagged_s is not None:
        return tagged_s
    if stream.codec_context is not None and stream.codec_context.name in PICTURE_CODECS and _num_videos(container) > 1:
        return 0.0
    return 0.0 if container.duration is None else container.duration / 1e6


def _num_videos(container: "InputContainer") -> int:
    return sum(stream.type == "video" for stream in container.streams)


def _tagged_s(stream: "Stream") -> float | None:
    """Matroska's tag of a stream's duration, "00:00:02.040000000"; writers add the language to its name."""
    text = next((value for key, value in stream.metadata.items() if key.upper().startswith("DURATION")), "")
    try:
        hours, minutes, seconds = text.split(":")
        return float(int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds.strip()))
    except ValueError:
        return None
