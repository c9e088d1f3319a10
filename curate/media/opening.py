"""Opens a media file for libav. The allowed readers are fixed before libav reads the data.

A name or the data decides which demuxer libav takes, and some demuxers read other files or listen on the network:
playlists, concat scripts, SDP, number patterns of images. So demuxers and protocols are named here, and no others run.
"""

import io
import os
from typing import TYPE_CHECKING

from curate.media.errors import media_errors
from curate.schema import FailureKind, MediaError

if TYPE_CHECKING:
    from av.container import InputContainer

VIDEO_DEMUXERS = frozenset(
    {
        "mov",  # MP4, MOV, 3GP
        "matroska",  # MKV, WebM
        "avi",
        "mpegts",
        "mpeg",  # program streams, VOB
        "flv",
        "asf",  # WMV
        "dv",
        "ogg",
        "mxf",
        "gif",
        "nut",
        "ivf",
        "rm",
        "yuv4mpegpipe",
        # Elementary streams.
        "h264",
        "hevc",
        "m4v",
        "mpegvideo",
        "obu",
        "mjpeg",
    }
)
"""By the first of libav's names. Each reads the one file that it is given."""

SOUND_DEMUXERS = frozenset({"wav", "mp3", "flac", "aac", "aiff"})
"""Readers of sound files, which are then reported as files without video."""

FORMAT_WHITELIST = ",".join(sorted(VIDEO_DEMUXERS | SOUND_DEMUXERS))

NO_PROTOCOL = "none"
"""The name of no protocol: a file given by its bytes opens nothing."""

MARGIN_PIXELS = 2**20
"""What decoders add to the sides of a small frame; the exact limit is the caller's to keep."""

PATTERN_CHARACTERS = frozenset("%*?[]{}")
"""Characters that make libav read a file name as the pattern of an image sequence."""


def open_container(
    source: str | bytes, name: str, *, time_limit_s: float | None, max_pixels: int
) -> "tuple[InputContainer, io.FileIO | None]":
    """Opens a local path, or a file's bytes.

    Args:
        source: The path or the bytes.
        name: For messages.
        time_limit_s: Wall-clock seconds for opening, and for each wait for data later.
        max_pixels: Of one frame; while libav looks for the streams, decoders refuse twice as many.

    Returns:
        The container, and a file that is to be closed after it, if there is one.

    Raises:
        MediaError: MISSING, PERMISSION, IO, TIMEOUT; NOT_MEDIA for everything that is on no list.
    """
    import av

    file = None
    with media_errors(name, doing="open", invalid=FailureKind.NOT_MEDIA):
        if isinstance(source, str) and not PATTERN_CHARACTERS.isdisjoint(source):
            file = io.FileIO(os.open(source, os.O_RDONLY | os.O_CLOEXEC))
    is_path = isinstance(source, str) and file is None
    try:
        with media_errors(name, doing="open", invalid=FailureKind.NOT_MEDIA):
            container = av.open(
                # "file:" keeps a colon in a name from being read as a protocol.
                f"file:{source!s}" if is_path else file or io.BytesIO(source),  # type: ignore[arg-type]
                "r",
                options={
                    "format_whitelist": FORMAT_WHITELIST,
                    "protocol_whitelist": "file" if is_path else NO_PROTOCOL,
                    "max_pixels": str(2 * max_pixels + MARGIN_PIXELS),
                },
                metadata_errors="replace",
                timeout=time_limit_s,
            )
    except MediaError as error:
        if file is not None:
            file.close()
        if error.kind is FailureKind.NOT_MEDIA:
            detail = f"{name} is no media file, or of a format that is not read (docs/decisions/decoders.md)"
            raise MediaError(FailureKind.NOT_MEDIA, detail) from error
        raise
    if container.format.name.split(",")[0] in VIDEO_DEMUXERS | SOUND_DEMUXERS:
        return container, file
    container.close()  # a demuxer of several names, whose first is not listed
    raise MediaError(FailureKind.NOT_MEDIA, f"{name} was read as {container.format.name}, which is not a video")
