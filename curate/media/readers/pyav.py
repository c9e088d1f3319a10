"""PyAV: the exact reader, which reads everything that `curate.media` opens. Without its frames no other is trusted."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np

from curate.encoders.fingerprint import library_versions
from curate.media.decode import Size, clip_frames
from curate.media.readers.base import StreamFacts


class PyavDecoder:
    name: ClassVar[str] = "pyav"
    key: ClassVar[str] = ""
    """As before there was a choice."""

    def __init__(self, device: str = "cpu") -> None:
        self.device = device

    @property
    def libraries(self) -> Mapping[str, str]:
        return library_versions("av")

    def setup(self) -> None: ...

    def cannot_read(self, stream: StreamFacts) -> str | None:
        return None

    def decode(
        self, source: str | bytes, stream: StreamFacts, numbers: np.ndarray, size: Size
    ) -> Iterator[np.ndarray]:
        return clip_frames(source, stream.times, numbers, size)
