"""decord: sampled access by frame number, scaled while it decodes, on one thread.

Its wheel carries FFmpeg 4.1 of 2018: what it does not know (AV1) it does not open. It seeks to a key frame and counts
the frames that come out, so it is silently wrong where some do not come out: the leading frames of an open
group, what an edit list hides, MPEG-TS.
"""

import os
import platform
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import ClassVar

import numpy as np

from curate.encoders.fingerprint import library_versions
from curate.media.decode import Size
from curate.media.readers.base import NotReadError, StreamFacts, batches, common_limits

WHEELS_FOR = frozenset({"x86_64", "AMD64"})
CODECS = frozenset({"h264", "hevc", "vp8", "vp9"})


class DecordDecoder:
    name: ClassVar[str] = "decord"

    def __init__(self, device: str = "cpu") -> None:
        self.device = device

    @property
    def key(self) -> str:
        return " ".join(f"{name}={version}" for name, version in self.libraries.items()) or self.name

    @property
    def libraries(self) -> Mapping[str, str]:
        return library_versions("decord")

    def setup(self) -> None:
        try:
            import decord  # noqa: F401
        except ModuleNotFoundError as error:
            if platform.machine() in WHEELS_FOR:
                raise
            found = f"media.reader=decord: decord is not installed, and has no wheel for {platform.machine()}"
            raise ValueError(f"{found}; expected media.reader=pyav or torchcodec") from error

    def cannot_read(self, stream: StreamFacts) -> str | None:
        if stream.codec not in CODECS:
            return f"the codec is {stream.codec}"
        if stream.has_open_groups:
            return "its groups of pictures are open"
        if stream.shape.rotation or stream.shape.mirrored:
            return "it is rotated"
        if stream.num_video_streams > 1:
            return "it has several video streams"
        return common_limits(stream)

    def decode(
        self, source: str | bytes, stream: StreamFacts, numbers: np.ndarray, size: Size
    ) -> Iterator[np.ndarray]:
        import decord

        try:
            # FFmpeg takes no absolute path for the name of a protocol.
            file = BytesIO(source) if isinstance(source, bytes) else os.path.abspath(source)
            reader = decord.VideoReader(file, height=size[0], width=size[1], num_threads=1)
            if len(reader) != len(stream.times.pts):
                raise NotReadError("decord counts other frames")
            for batch in batches(numbers, size):
                yield from reader.get_batch(batch).asnumpy()
        except (decord.DECORDError, RuntimeError, AssertionError, IndexError) as error:
            raise NotReadError(f"decord fails ({type(error).__name__})") from error
