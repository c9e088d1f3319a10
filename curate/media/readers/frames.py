"""Frames of clips by the reader that is chosen, and by PyAV what that one does not read right."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from curate.media.container import check_file, is_still
from curate.media.counter import count_decoded
from curate.media.decode import ClipTimes, Size, clip_frames
from curate.media.limits import CEILING_PIXELS
from curate.media.readers.base import FrameDecoder, NotReadError, StreamFacts
from curate.media.readers.facts import stream_facts
from curate.media.readers.pyav import PyavDecoder
from curate.media.sample import SampledFrames, moments, sample_frames
from curate.schema import MediaError, Span

MAX_SOURCE_S = 60.0
"""Longer files are sampled by PyAV: other readers go through all packets of a file when they open it."""


class Reading(Iterator[np.ndarray]):
    """Frames of a clip, one by one.

    Attributes:
        fallback: Why PyAV read them instead of the chosen reader; None where that one did. Known when they are
            read.
    """

    def __init__(self, frames: "Callable[[Reading], Iterator[np.ndarray]]") -> None:
        self.fallback: str | None = None
        self._frames = frames(self)

    def __next__(self) -> np.ndarray:
        return next(self._frames)


@dataclass(frozen=True)
class FrameReader:
    """Reads frames by one member of the family. What it reads is PyAV's frame in any case; pixels differ by scaling.

    A file that the member fails on, or that is no video, is read by PyAV: its errors are what a caller sees.
    """

    decoder: FrameDecoder

    @property
    def key(self) -> str:
        """Part of the keys of what is computed from the frames; empty for PyAV."""
        return self.decoder.key

    @property
    def is_pyav(self) -> bool:
        return isinstance(self.decoder, PyavDecoder)

    def setup(self) -> None:
        """See `FrameDecoder.setup`."""
        self.decoder.setup()

    def read_by(self, fallback: str | None) -> Mapping[str, str]:
        """Versions of what read frames, for the record; empty where PyAV is the chosen reader.

        Args:
            fallback: Of the frames.
        """
        if self.is_pyav:
            return {}
        return self.decoder.libraries if fallback is None else PyavDecoder().libraries

    def frames(
        self,
        source: str | bytes,
        times: ClipTimes,
        indices: np.ndarray,
        size: Size | Callable[[int, int], Size] | None = None,
        *,
        max_pixels: int = CEILING_PIXELS,
    ) -> Reading:
        """As `clip_frames`, with its arguments and errors."""

        def read(reading: Reading) -> Iterator[np.ndarray]:
            done = 0
            if not self.is_pyav and not is_still(source):
                try:
                    stream = self._readable(source, max_pixels=max_pixels)
                    for rgb in self.decoder.decode(source, stream, indices, _size(stream, size)):
                        done += 1
                        count_decoded()
                        yield rgb
                except NotReadError as error:
                    reading.fallback = str(error)
            if done < len(indices):
                yield from clip_frames(source, times, indices[done:], size, max_pixels=max_pixels)

        return Reading(read)

    def sample(
        self, path: str, span: Span, num_frames: int, *, short_side_px: int | None, deinterlace: bool = False
    ) -> tuple[SampledFrames, str | None]:
        """As `sample_frames`, with its arguments and errors; and why PyAV read them instead of the reader."""
        fallback = None
        if not self.is_pyav:
            check_file(path)
            if not is_still(path):
                try:
                    if deinterlace:
                        raise NotReadError("frames are deinterlaced")
                    return self._sampled(path, span, num_frames, short_side_px), None
                except NotReadError as error:
                    fallback = str(error)
        frames = sample_frames(path, span, num_frames, short_side_px=short_side_px, deinterlace=deinterlace)
        return frames, fallback

    def _sampled(self, path: str, span: Span, num_frames: int, short_side_px: int | None) -> SampledFrames:
        stream = self._readable(path, max_duration_s=MAX_SOURCE_S)
        if span.time_base != stream.times.time_base:
            raise NotReadError("its frames are counted")
        numbers = _shown_at(stream.times, np.array(moments(span, num_frames)))
        width, height = stream.shape.scaled(short_side_px)
        if not len(numbers):
            raise NotReadError("it shows nothing there")
        rgb = np.stack(list(self.decoder.decode(path, stream, numbers, (height, width))))
        for _ in rgb:
            count_decoded()
        return SampledFrames(rgb=rgb, pts=stream.times.pts[numbers])

    def _readable(self, source: str | bytes, **limits: float) -> StreamFacts:
        """Raises NotReadError where the decoder does not read the source right."""
        try:
            stream = stream_facts(source, **limits)  # type: ignore[arg-type]
        except MediaError as error:  # for PyAV to say
            raise NotReadError(f"it is not readable ({error.kind})") from error
        if refused := self.decoder.cannot_read(stream):
            raise NotReadError(refused)
        return stream


PYAV = FrameReader(PyavDecoder())
"""As it is without a choice."""


def _shown_at(times: ClipTimes, wanted: np.ndarray) -> np.ndarray:
    """`(n,)` numbers of the frames that are shown at these moments, once each; before the first frame, the first."""
    numbers = np.searchsorted(times.pts, wanted[wanted < times.end_pts], side="right") - 1
    return np.unique(np.maximum(numbers, 0))


def _size(stream: StreamFacts, size: Size | Callable[[int, int], Size] | None) -> Size:
    width, height = stream.shape.scaled(None)
    return size(height, width) if callable(size) else size or (height, width)
