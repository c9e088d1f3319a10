"""Files that are clips as they stand: in mode copy their very bytes are kept."""

from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np

from curate.media.container import read_head
from curate.media.remux import CopiedPackets
from curate.media.sound import SoundTrack, main_track, track_of
from curate.media.sound_tracks import MP4_CODECS
from curate.media.stream import VideoReader

QUICKTIME = b"qt  "
PNG = b"\x89PNG\r\n\x1a\n"

KeptSound = tuple[SoundTrack | None, float]
"""The sound track of a file that is kept, and its seconds."""


def kept_sound(
    path: str, reader: VideoReader, copied: CopiedPackets, audio: Literal["none", "copy", "aac"]
) -> KeptSound | None:
    """The sound of a file that is a clip as it stands; None where it is not.

    It is one where it is MP4, not QuickTime; has nothing but one picture and at most one sound track, as `audio` wants
    it; all its pictures are in the span, and the first is shown at 0.

    Args:
        path: Of the file.
        reader: Of the file.
        copied: The packets of the span.
        audio: Of `CutConfig`.
    """
    head = read_head(path)
    if head[4:8] != b"ftyp" or head[8:12] == QUICKTIME or reader.stream.frames != len(copied.packets):
        return None
    kinds = [stream.type for stream in reader.container.streams]
    if sorted(kinds) not in (["video"], ["audio", "video"]) or reader.stream.start_time not in (0, None):
        return None
    if "audio" not in kinds:
        return None, 0.0
    stream = main_track(reader)
    codec = "" if stream is None else stream.codec_context.codec.canonical_name
    if (
        stream is None
        or stream.duration is None
        or codec not in {"copy": MP4_CODECS, "aac": {"aac"}}.get(audio, set())
    ):
        return None
    return track_of(reader, stream), float(stream.duration * Fraction(stream.time_base or 1))


def kept_png(path: str, rgb: np.ndarray) -> bytes | None:
    """The bytes of a PNG whose stored pixels are those that are seen; None for any other image.

    Args:
        path: Of the image.
        rgb: `(H, W, 3)` uint8, as `read_still` gives it.
    """
    from PIL import Image

    if not read_head(path).startswith(PNG):
        return None
    with Image.open(path, formats=["PNG"]) as image:
        if image.mode != "RGB" or not np.array_equal(np.asarray(image), rgb):
            return None
    return Path(path).read_bytes()
