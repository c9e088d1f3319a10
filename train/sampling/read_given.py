"""Files that a user supplies for a video (`GivenFiles`), encoded as the clips of training are (`Given`)."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from curate.media.decode import ClipTimes, clip_times
from curate.media.readers.config import MediaConfig
from curate.media.readers.frames import FrameReader
from curate.schema import MediaError
from train.autoencoder.base import VideoAutoencoder, usable_frames
from train.autoencoder.pixels import covering_frames, covering_size, encode_frames, gray_video
from train.autoencoder.record import config_of, picture_states
from train.autoencoder.sizes import multiple_of, target_size
from train.data.tasks.base import GrayVideo, allowed, canvas_of, gray_of
from train.run.config import TrainConfig
from train.run.folder import RunRecord
from train.sampling.given import Given, check_trained
from train.sampling.given_files import GivenFiles
from train.sampling.masks import kept_patches
from train.sampling.request import Request, latent_shape

SHOWN_CUT = 0.02
"""Share of a picture that is cut off and not told."""


class _Source(NamedTuple):
    """A file that was opened: where its frames are, at the rate that is generated."""

    name: str
    path: Path
    times: ClipTimes
    indices: np.ndarray


def read_given(
    files: GivenFiles,
    request: Request,
    config: TrainConfig,
    record: RunRecord,
    autoencoder: VideoAutoencoder,
    fps: float,
) -> Given:
    """What the files show, for a video of this size and length.

    Raises:
        ValueError: a file that cannot be read, a frame that there is not, a mask of another size, or what the run was
            not trained on; each says what would work.
    """
    return _Reader(request, config, record, autoencoder, fps).read(files)


def check_given(
    files: GivenFiles, request: Request, config: TrainConfig, record: RunRecord, fps: float
) -> tuple[Given, list[str]]:
    """What `read_given` gives, found without an autoencoder: latents that have no values, and what the user may not
    have meant, such as a picture of another shape.

    Raises:
        ValueError: as `read_given`.
    """
    reader = _Reader(request, config, record, None, fps)
    return reader.read(files), reader.notes


class _Reader:
    """Reads files for one request of a run. Without an autoencoder latents have their number of frames alone."""

    def __init__(
        self,
        request: Request,
        config: TrainConfig,
        record: RunRecord,
        autoencoder: VideoAutoencoder | None,
        fps: float,
    ) -> None:
        self.request, self.tasks, self.patch, self.fps = request, config.data.tasks, config.model.patch, fps
        self.autoencoder, self.latents = autoencoder, record.latents
        self.encode_picture = None
        if autoencoder is not None and config.model.pictures is not None:
            self.encode_picture = picture_states(record.latents, autoencoder.device).states
        self.stride, spatial_stride = int(record.latents["temporal_stride"]), int(record.latents["spatial_stride"])
        self.canvas = canvas_of(latent_shape(request, record.latents, self.patch), self.patch)
        self.multiple_px = multiple_of(config_of(record.latents).multiple_px, spatial_stride)
        self.step_px = math.lcm(self.multiple_px, spatial_stride * math.lcm(*self.patch[1:]))
        self.notes: list[str] = []
        self.reader: FrameReader = MediaConfig(**record.latents.get("media", {})).build()
        self.reader.setup()
        self.size = request.height, request.width

    def read(self, files: GivenFiles) -> Given:
        first, last, edited = files.parts
        if edited is not None:
            name = "video" if files.invert is None else "invert"
            given = self._edited(_opened(name, edited, self.fps), files.mask)
            return replace(given, inverted=files.invert is not None)
        keys = {self._latent_frame(number): self._opened_picture(number, path) for number, path in files.keys.items()}
        start = None if first is None else _opened("start", first, self.fps)
        end = None if last is None else _opened("end", last, self.fps)
        if start is not None and not keys and gray_of(self.tasks):
            return self._gray(start, end)
        if start is not None and not self._is_causal():
            raise ValueError(
                f"--start {first}: the run's autoencoder codes a picture otherwise than the first frame of a video; "
                "leave the start out"
            )
        num_first, num_last = self._most(start, end, keys)
        pictures = {frame: self._encoded(source, source.indices[:1]) for frame, source in keys.items()}
        if end is not None:
            shown = end.indices[:: self.stride][:num_last]
            places = self.canvas.last_frames(num_last)
            self._check_apart(places, keys)
            pictures |= {place: self._encoded(end, shown[n : n + 1]) for n, place in enumerate(places)}
        return Given(
            start=None if start is None else self._encoded(start, start.indices[-self._frames(num_first) :]),
            frames={frame: latent[:, 0] for frame, latent in pictures.items()},
        )

    def _gray(self, start: _Source, end: _Source | None) -> Given:
        """A video of the last frame of the start, gray ones, and by option the first frame of the end."""
        kind: GrayVideo = "first" if end is None else "both_ends"
        given = Given(gray_frames=kind)
        check_trained(self.tasks, self.canvas, given.shown(self.canvas, self.patch))
        sources = [(start, start.indices[-1:])] + ([] if end is None else [(end, end.indices[:1])])
        if self.autoencoder is None:
            for source, _ in sources:
                self._note_shape(source)
            return replace(given, gray=torch.empty(0, self.canvas.num_frames, 0, 0))
        frames = [next(self._frames_of(source, indices)) for source, indices in sources]
        video = gray_video(frames[0], self.request.num_frames, frames[1] if end is not None else None)
        gray = encode_frames(self.autoencoder, video, self.request.num_frames)
        picture = self.encode_picture
        return replace(given, gray=gray, picture=None if picture is None else picture(frames).flatten(0, 1))

    def _is_causal(self) -> bool:
        if self.autoencoder is None:
            return bool(self.latents.get("is_causal", True))
        return self.autoencoder.is_causal

    def _check_apart(self, places: Sequence[int], keys: Mapping[int, _Source]) -> None:
        if both := sorted(keys.keys() & set(places)):
            frame = both[0] * self.stride
            raise ValueError(
                f"--keys {frame}={keys[both[0]].path}: the end shows frame {frame}, too; leave one of them out"
            )

    def _most(self, start: _Source | None, end: _Source | None, keys: Mapping[int, _Source]) -> tuple[int, int]:
        """Latent frames of the start, pictures of the end: as many as the files have and the run was trained on, and
        half of the video at most."""
        half = max(1, self.canvas.num_frames // 2)
        numbers = [
            [0] if source is None else list(range(1, min(self._latent_frames(source), half) + 1))
            for source in (start, end)
        ]
        choices = sorted(product(*numbers), key=sum)
        for num_first, num_last in reversed(choices):
            shown = self._shape(num_first, num_last, keys).shown(self.canvas, self.patch)
            if allowed(self.tasks, self.canvas, shown):
                return num_first, num_last
        num_first, num_last = choices[0]
        check_trained(self.tasks, self.canvas, self._shape(num_first, num_last, keys).shown(self.canvas, self.patch))
        return num_first, num_last

    def _shape(self, num_first: int, num_last: int, keys: Mapping[int, _Source]) -> Given:
        """What would be given, without its values."""
        frames = dict.fromkeys([*keys, *self.canvas.last_frames(num_last)], torch.empty(0))
        return Given(start=torch.empty(0, num_first) if num_first else None, frames=frames)

    def _edited(self, video: _Source, mask: Path | None) -> Given:
        wanted = self.request.num_frames
        if len(video.indices) < wanted:
            usable = usable_frames(len(video.indices), self.stride)
            raise ValueError(
                f"--{video.name} {video.path}: it has {len(video.indices)} frames at {self.fps:g} a second, and "
                f"--frames is {wanted}; ask for {usable}"
            )
        kept = None
        if mask is not None:
            kept = kept_patches(
                self._pixels(_opened("mask", mask, None), wanted, video),
                size=self.size, canvas=self.canvas, patch=self.patch, stride=self.stride, multiple_px=self.multiple_px,
            )  # fmt: skip
            if kept.all() or not kept.any():
                problem = "nothing of it is white" if kept.all() else "all of it is white"
                raise ValueError(
                    f"--mask {mask}: {problem}; expected white where the video is made new, black elsewhere"
                )
        given = Given(video=self._encoded(video, video.indices[:wanted]), kept=kept)
        check_trained(self.tasks, self.canvas, given.shown(self.canvas, self.patch))
        return given

    def _pixels(self, mask: _Source, wanted: int, video: _Source) -> np.ndarray:
        """(T, H, W, 3) uint8 of a mask, in its own size, which is that of the video or of what is generated.

        Its frames are those of the video's file, or those that are taken of it at the rate that is generated.
        """
        own = len(video.times.pts)
        numbers = {1: mask.indices, len(video.indices): mask.indices[:wanted], own: video.indices[:wanted]}
        if len(mask.indices) not in numbers:
            raise ValueError(
                f"--mask {mask.path}: got {len(mask.indices)} frames; expected a picture, or {own} frames, as many as "
                "the video has"
            )
        frames = self.reader.frames(str(mask.path), mask.times, numbers[len(mask.indices)])
        rgb = np.stack(list(_read(frames, mask)))
        side = next(_read(self.reader.frames(str(video.path), video.times, video.indices[:1]), video)).shape[:2]
        if rgb.shape[1:3] not in (side, self.size):
            sides, shapes = rgb.shape[1:3], [f"{width}x{height}" for height, width in (side, self.size)]
            raise ValueError(
                f"--mask {mask.path}: got {sides[1]}x{sides[0]} px; expected the video's {shapes[0]}, or --size "
                f"{shapes[1]}"
            )
        return rgb

    def _encoded(self, source: _Source, indices: np.ndarray) -> Tensor:
        """(C, T, H, W) float32."""
        if self.autoencoder is None:
            self._note_shape(source)
            return torch.empty(0, 1 + (len(indices) - 1) // self.stride, 0, 0)
        return encode_frames(self.autoencoder, self._frames_of(source, indices), len(indices))

    def _frames_of(self, source: _Source, indices: np.ndarray) -> Iterator[np.ndarray]:
        """(H, W, 3) uint8 each, of the size that is generated."""
        frames = covering_frames(
            self.reader, str(source.path), source.times, indices, size=self.size, multiple_px=self.multiple_px
        )
        return _read(frames, source)

    def _note_shape(self, source: _Source) -> None:
        """Say what is cut off of a picture or clip of another shape."""
        shown = self.reader.frames(str(source.path), source.times, source.indices[:1])
        height, width = next(_read(shown, source)).shape[:2]
        covering = covering_size(height, width, size=self.size, multiple_px=self.multiple_px)
        cut, area = 1 - math.prod(self.size) / math.prod(covering), math.prod(self.size)
        enlarged = max(1, math.ceil(math.sqrt(area / (height * width))))
        near = target_size(height * enlarged, width * enlarged, max_area_px=area, multiple_px=self.step_px)
        own, wanted, better = (f"{size[1]}x{size[0]}" for size in ((height, width), self.size, near))
        note = f"--{source.name} {source.path}: {cut:.0%} of its {own} px is cut off to fit {wanted}"
        note += "" if near == self.size else f"; {better} shows more of it"
        if cut > SHOWN_CUT and note not in self.notes:
            self.notes.append(note)

    def _latent_frame(self, number: int) -> int:
        """The latent frame whose last frame has this number."""
        last = self.request.num_frames - 1
        if not 0 <= number <= last:
            raise ValueError(f"--keys {number}: expected a frame from 0 to {last}, of {last + 1} frames (--frames)")
        if number % self.stride:
            below = number - number % self.stride
            raise ValueError(
                f"--keys {number}: pictures stand at multiples of {self.stride} frames; the nearest are {below} and "
                f"{below + self.stride}"
            )
        return number // self.stride

    def _opened_picture(self, number: int, path: Path) -> _Source:
        source = _opened(f"keys {number}", path, None)
        if len(source.indices) > 1:
            raise ValueError(
                f"--keys {number}={path}: got a video of {len(source.indices)} frames; expected a picture"
            )
        return source

    def _latent_frames(self, source: _Source) -> int:
        return 1 + (len(source.indices) - 1) // self.stride

    def _frames(self, num_latent_frames: int) -> int:
        return 1 + self.stride * (num_latent_frames - 1)


def _opened(name: str, path: Path, fps: float | None) -> _Source:
    try:
        times = clip_times(str(path))
    except (OSError, MediaError) as error:
        raise _unreadable(name, path, error) from error
    return _Source(name, path, times, times.at(None if len(times.pts) == 1 else fps or None))


def _read(frames: Iterator[np.ndarray], source: _Source) -> Iterator[np.ndarray]:
    try:
        yield from frames
    except (OSError, MediaError) as error:
        raise _unreadable(source.name, source.path, error) from error


def _unreadable(name: str, path: Path, error: Exception) -> ValueError:
    return ValueError(f"--{name} {path}: cannot be read ({error}); expected a picture or a video")
