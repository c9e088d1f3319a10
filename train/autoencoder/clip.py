"""A clip of a shard, opened: which of its frames are encoded, and these frames, resized."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from curate.media.decode import ClipTimes, clip_times
from curate.media.readers.frames import FrameReader, Reading
from curate.schema import Failure, FailureKind
from curate.shards.tar import TarReader
from train.autoencoder.ahead import ahead
from train.autoencoder.config import EncodeConfig
from train.autoencoder.sizes import multiple_of, target_size
from train.autoencoder.windows import Window, in_windows, middle_of, windows_of

STEP = "encode"
PLACE = ("clip_id", "shard", "offset", "size", "kind", "digest")
"""Columns of the index that make an item."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodeItem:
    """Where the media of a clip are stored: `size` bytes from `offset` of `shard`, with their digest. `window`: the
    number of the only window that is wanted; None: all of them."""

    clip_id: str
    shard: str
    offset: int
    size: int
    kind: Literal["video", "image"]
    digest: str | None = None
    window: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenedClip:
    """Frames that are to be encoded.

    Attributes:
        windows: of the clip's frames at `fps`, in order.
        num_frames: that the clip has at `fps`.
        fps: frames per second; 0 for an image.
        frames: (H, W, 3) uint8, from the start of the first window to the end of the last.
        reading: says who read them.
        size: has the clip's own size, when its first frame is there.
    """

    windows: tuple[Window, ...]
    num_frames: int
    fps: float
    frames: Iterator[np.ndarray]
    reading: Reading
    size: "Size"

    def in_windows(self) -> Iterator[tuple[Window, Iterator[np.ndarray]]]:
        return zip(self.windows, in_windows(self.frames, self.windows), strict=True)


class Size:
    """The height and width that a clip is scaled to; what is asked for it says the clip's own, upright."""

    def __init__(self, max_area_px: int, multiple_px: int) -> None:
        self._max_area_px, self._multiple_px = max_area_px, multiple_px
        self.source: tuple[int, int] | None = None

    def __call__(self, height: int, width: int) -> tuple[int, int]:
        self.source = height, width
        return target_size(height, width, max_area_px=self._max_area_px, multiple_px=self._multiple_px)


class ClipOpener:
    """Opens clips of a folder of shards, for an autoencoder: its strides say which frames and sides it takes."""

    def __init__(
        self,
        config: EncodeConfig,
        shards: TarReader,
        reader: FrameReader,
        *,
        temporal_stride: int,
        spatial_stride: int,
    ) -> None:
        self._config = config
        self._shards, self._reader = shards, reader
        self._temporal_stride = temporal_stride
        self._multiple_px = multiple_of(config.multiple_px, spatial_stride)

    def open(self, item: EncodeItem, *, num_ahead: int = 0) -> OpenedClip | Failure:
        """Its first frame is decoded, and more of them in a thread where it is one of `num_ahead` clips of later.

        Raises:
            MediaError: it cannot be decoded.
        """
        try:
            data = self._shards.read(item.shard, item.offset, item.size, key=item.clip_id, digest=item.digest)
        except FileNotFoundError as error:
            return _failure(item, FailureKind.MISSING, str(error))
        except OSError as error:
            return _failure(item, FailureKind.IO, f"{item.shard}: {error}")
        except ValueError as error:  # the shard is shorter than the index says
            return _failure(item, FailureKind.TRUNCATED, str(error))
        times = clip_times(data)
        is_image = item.kind == "image" or len(times.pts) == 1
        indices = np.zeros(1, np.int64) if is_image else times.at(self._config.fps)
        windows = self._windows(len(indices))
        if item.window is not None:
            if item.window >= len(windows):
                detail = f"window {item.window} of {len(windows)}: the index is of another clip; encode again"
                return _failure(item, FailureKind.CORRUPT, detail)
            windows = windows[item.window : item.window + 1]
        wanted = indices[windows[0].start : windows[-1].end]
        size = Size(self._config.max_area_px, self._multiple_px)
        reading = self._reader.frames(data, times, wanted, size)
        return OpenedClip(
            windows=windows,
            num_frames=len(indices),
            fps=0.0 if is_image else self._config.fps or _rate(times),
            frames=ahead(reading, num_ahead) if num_ahead else reading,
            reading=reading,
            size=size,
        )

    def _windows(self, num_frames: int) -> tuple[Window, ...]:
        rule = windows_of if self._config.windows == "all" else middle_of
        return rule(num_frames, max_frames=self._config.max_frames, temporal_stride=self._temporal_stride)


def _failure(item: EncodeItem, kind: FailureKind, detail: str) -> Failure:
    return Failure(subject=item.clip_id, step=STEP, kind=kind, detail=detail)


def _rate(times: ClipTimes) -> float:
    """Frames per second of the clip's own frames, two at least."""
    starts_s = times.starts_s
    return float((len(starts_s) - 1) / (starts_s[-1] - starts_s[0]))
