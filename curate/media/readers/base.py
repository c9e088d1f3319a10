"""What a reader of frames is: numbers of frames in, pixels out.

When each frame is shown is known from the packets, whoever decodes them: `curate.media.decode.ClipTimes`. A reader
declares what it does not read right, and `curate.media.readers.frames` has PyAV read that.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from curate.media.decode import ClipTimes, Size
from curate.media.geometry import Geometry

MAX_BATCH_BYTES = 32 << 20
"""Of the frames that a reader decodes with one call of its library."""


class NotReadError(Exception):
    """The reader does not read this file; the message says why, in the words that are counted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamFacts:
    """A file's main video stream, by its packets and its first frame: what decides who reads it right.

    Attributes:
        times: Of all its frames.
        shape: Of the first frame.
        container: FFmpeg's first name: "mov" for MP4 too.
        codec: FFmpeg's name of the codec: "h264", "hevc", "vp9", "av1".
        bits: Per sample.
        index: Of the stream within the file.
        num_video_streams: Of the file, covers too.
        has_alpha: Whether frames have an alpha plane.
        is_interlaced: By the header or the first frame.
        is_pq: Whether its colors are HDR by PQ, which is tone-mapped.
        is_taken_as_bt709: It names no matrix, and its size says BT.709.
        hides_frames: Frames are decoded that an edit list does not show.
        has_open_groups: Frames follow a key frame in the file and are shown before it.
    """

    times: ClipTimes
    shape: Geometry
    container: str
    codec: str
    bits: int
    index: int
    num_video_streams: int
    has_alpha: bool
    is_interlaced: bool
    is_pq: bool
    is_taken_as_bt709: bool
    hides_frames: bool
    has_open_groups: bool


class FrameDecoder(Protocol):
    """A member of the family. Cheap to construct and to pickle; only `setup` and `decode` import its library."""

    name: ClassVar[str]

    @property
    def key(self) -> str:
        """Names the pixels in the keys of what is computed from them: equal keys, equal frames. Empty for PyAV."""

    @property
    def libraries(self) -> Mapping[str, str]:
        """Versions of what decodes, by name, for the record."""

    def setup(self) -> None:
        """Import the library, before threads start.

        Raises:
            ModuleNotFoundError: it is not installed.
            ValueError: it does not load, or lacks its device; the message says what to do.
        """

    def cannot_read(self, stream: StreamFacts) -> str | None:
        """Why frames of such a stream would not be those of PyAV; None: they are, up to the scaling of pixels."""

    def decode(
        self, source: str | bytes, stream: StreamFacts, numbers: np.ndarray, size: Size
    ) -> Iterator[np.ndarray]:
        """The frames with these numbers in order of presentation, `(H, W, 3)` uint8, upright, scaled to `size`.

        Args:
            source: Local path or bytes.
            stream: Of this source; `cannot_read` says nothing against it.
            numbers: `(n,)` int64, which do not decrease and may repeat.
            size: Height and width, px.

        Raises:
            NotReadError: The library fails.
        """


def common_limits(stream: StreamFacts) -> str | None:
    """What no reader but PyAV is made for here: times and colors that `curate.media` treats in its own way."""
    if stream.container not in ("mov", "matroska"):
        return f"the container is {stream.container}"
    if stream.hides_frames:
        return "an edit list hides frames"
    if stream.is_interlaced:
        return "it is interlaced"
    if stream.is_pq:
        return "it is HDR by PQ"
    if stream.has_alpha:
        return "it has transparency"
    return "it names no color matrix" if stream.is_taken_as_bt709 else None


def batches(numbers: np.ndarray, size: Size) -> Iterator[np.ndarray]:
    """Parts of `numbers` whose frames fit into `MAX_BATCH_BYTES`, one at least."""
    step = max(1, MAX_BATCH_BYTES // (3 * size[0] * size[1]))
    for first in range(0, len(numbers), step):
        yield numbers[first : first + step]
