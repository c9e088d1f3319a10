"""Autoencoders on the clips of a dataset, or on excerpts of a video. The driver of `reelpack autoencoder-check`."""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import TypeAdapter, ValidationError

from curate.dataset.dataset import Dataset
from curate.dataset.layout import Layout
from curate.media.codecs import EncodeConfig as CodecConfig
from curate.media.decode import ClipTimes, clip_frames, clip_times
from curate.media.encode import Mp4Encoder
from curate.media.fetch import local_copy
from curate.schema import MediaError
from curate.shards.tar import TarReader, read_member
from curate.storage.place import locate
from pipelines.console.progress import CLIPS, console, track
from train.autoencoder.base import VideoAutoencoder
from train.autoencoder.check import Check, CheckedClip, check, comparison
from train.autoencoder.config import EncodeConfig
from train.autoencoder.given import autoencoder_given
from train.autoencoder.perceptual.config import FrameDistanceConfig
from train.autoencoder.perceptual.judges import judges_of
from train.autoencoder.sizes import target_size
from train.evaluate.video_features.config import VideoFeaturesConfig

SEED = 0
SHOWN_RATE = Fraction(12)
DATASET_CONFIG = "config.yaml"
"""That `curate` writes into a dataset."""
NUM_TOLD = 5
"""Files by name that are no videos."""
MOST_SHOWN = 192
"""Frames of the video, at 12 a second."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """What was found, autoencoder by autoencoder, and the names under which they were given."""

    checks: tuple[Check, ...]
    given: tuple[str, ...]
    num_clips: int


def compare(
    source: str,
    given: Sequence[str],
    config: EncodeConfig,
    *,
    num_clips: int,
    video: str | None = None,
    distances: Sequence[str] = (),
    rfvd: Sequence[str] = (),
) -> Comparison:
    """Measure autoencoders on equal clips.

    Args:
        source: a dataset directory, a video, or a local folder of videos.
        given: autoencoders: `embedded`, a folder that `train-autoencoder` wrote, or settings in YAML; none: that of
            `encode.autoencoder`.
        config: size, rate and length of clips, as `encode` takes them.
        num_clips: of the dataset, drawn by a seed; or excerpts of the videos.
        video: an MP4 to write, of the clips that the first autoencoder reconstructs worst.
        distances: networks that compare frames, of `train/autoencoder/perceptual`: a kind, or settings in YAML.
        rfvd: networks of `train/evaluate/video_features`, likewise.

    Raises:
        ValueError: no clip can be decoded, an autoencoder cannot be loaded, or the video cannot be written.
    """
    if video is not None:
        _check_target(video)
    of_frames: list[FrameDistanceConfig] = [_judge(one, FrameDistanceConfig, "--perceptual") for one in distances]
    of_videos: list[VideoFeaturesConfig] = [_judge(one, VideoFeaturesConfig, "--rfvd") for one in rfvd]
    settings = [autoencoder_given(one) for one in given] or [config.autoencoder]
    names = [*given] or [config.autoencoder.kind]
    autoencoders = [one.build() for one in settings]
    judges = judges_of(of_frames, of_videos, autoencoders[0].device)
    multiple = math.lcm(config.multiple_px, *(one.spatial_stride for one in autoencoders))
    chosen = _clips(source, config, num_clips, multiple)
    clips = list(track(chosen, _num_clips(source, num_clips), "decode", unit=CLIPS))
    if not clips:
        raise ValueError(f"{source}: no clip of it can be decoded")
    checks = []
    for name, autoencoder in zip(names, autoencoders, strict=True):
        tried = track(clips, len(clips), name, unit=CLIPS)
        checks.append(check(autoencoder, tried, multiple_px=multiple, judges=judges))
    failed = {failure.subject for one in checks for failure in one.failures}
    worst = [one.name for one in checks[0].clips if one.name not in failed]
    if video is not None and worst:
        by_name = {clip.name: clip for clip in clips}
        _write(video, autoencoders, [by_name[name] for name in worst], multiple)
    return Comparison(checks=tuple(checks), given=tuple(names), num_clips=len(clips))


def _judge(given: str, family: Any, option: str) -> Any:
    """Settings of a member of a family."""
    try:
        text = given if given.lstrip().startswith("{") else f"{{kind: {given}}}"
        return TypeAdapter(family).validate_python(yaml.safe_load(text))
    except (yaml.YAMLError, ValidationError) as error:
        raise ValueError(f"{option} {given}: {error}") from None


def _num_clips(source: str, most: int) -> int:
    """How many `_clips` there are, of a dataset; of a video, at most."""
    return min(most, Dataset(source).read_index().num_rows) if _is_dataset(source) else most


def _clips(source: str, config: EncodeConfig, num_clips: int, multiple: int) -> Iterator[CheckedClip]:
    """Clips as `encode` would take them, without those that cannot be decoded."""
    if _is_dataset(source):
        dataset = Dataset(source)
        rows = dataset.read_index().to_pylist()
        reader = TarReader(dataset.layout.shards)
        for row in random.Random(SEED).sample(rows, min(num_clips, len(rows))):
            try:
                yield CheckedClip(name=row["clip_id"], rgb=_middle(read_member(reader, row), config, multiple))
            except MediaError as error:
                console.print(f"clip {row['clip_id']} is left out: {error}", highlight=False, markup=False)
        return
    videos = _videos(source)
    done, broken = 0, 0
    for number, video in enumerate(videos):
        wanted = math.ceil((num_clips - done) / (len(videos) - number))
        try:
            with local_copy(video) as path:
                for clip in _excerpts(path, config, wanted, multiple):
                    done += 1
                    yield clip
        except MediaError as error:
            if len(videos) == 1:
                raise ValueError(f"{source}: {error.kind}: {error.detail}") from None
            broken += 1
            if broken <= NUM_TOLD:
                console.print(f"{video} is left out: {error.kind}", highlight=False, markup=False)
    if broken > NUM_TOLD:
        console.print(f"{broken - NUM_TOLD} more files are left out", highlight=False, markup=False)


def _videos(source: str) -> list[str]:
    """The file, or the files of a local folder, those of its folders too.

    Raises:
        ValueError: the folder has none.
    """
    folder = Path(source)
    if not folder.is_dir():
        return [source]
    files = sorted(one for one in folder.rglob("*") if one.is_file() and not _is_hidden(one.relative_to(folder)))
    if (folder / DATASET_CONFIG).is_file() or not files:
        raise ValueError(
            f"{source}: a dataset without clips, or a folder without videos; expected a video, a folder of videos, or "
            "a dataset that `reelpack curate` has finished"
        )
    return list(map(str, files))


def _is_hidden(name: Path) -> bool:
    return any(part.startswith(".") for part in name.parts)


def _is_dataset(source: str) -> bool:
    fs, path = locate(Layout(source).index)
    return bool(fs.exists(path))


def _middle(data: bytes, config: EncodeConfig, multiple: int) -> np.ndarray:
    times, indices = _ticks(data, config)
    count = min(len(indices), config.max_frames)
    start = (len(indices) - count) // 2
    return _frames(data, times, indices[start : start + count], config, multiple)


def _excerpts(path: str, config: EncodeConfig, num_clips: int, multiple: int) -> Iterator[CheckedClip]:
    """Of a video, evenly spaced; fewer where it is short."""
    times, indices = _ticks(path, config)
    count = min(len(indices), config.max_frames)
    for start in np.unique(np.linspace(0, len(indices) - count, num_clips).astype(int)):
        rgb = _frames(path, times, indices[start : start + count], config, multiple)
        yield CheckedClip(name=f"{Path(path).name} at {times.starts_s[indices[start]]:.2f} s", rgb=rgb)


def _ticks(source: str | bytes, config: EncodeConfig) -> tuple[ClipTimes, np.ndarray]:
    """When frames are shown, and the numbers of those at the settings' rate."""
    times = clip_times(source)
    return times, times.at(None if len(times.pts) == 1 else config.fps)


def _frames(
    source: str | bytes, times: ClipTimes, indices: np.ndarray, config: EncodeConfig, multiple: int
) -> np.ndarray:
    def size(height: int, width: int) -> tuple[int, int]:
        return target_size(height, width, max_area_px=config.max_area_px, multiple_px=multiple)

    return np.stack(list(clip_frames(source, times, indices, size)))


def _check_target(video: str) -> None:
    """Told before minutes of work."""
    if not Path(video).parent.is_dir():
        raise ValueError(f"--video {video}: there is no folder {Path(video).parent}; make it, or choose another")
    if Path(video).suffix.lower() != ".mp4":
        raise ValueError(f"--video {video}: expected a name that ends in .mp4")


def _write(video: str, autoencoders: Sequence[VideoAutoencoder], clips: Sequence[CheckedClip], multiple: int) -> None:
    """The clips one after the other, of the size of the first; bars fill up those of another shape."""
    frames = islice(chain.from_iterable(comparison(autoencoders, clip, multiple) for clip in clips), MOST_SHOWN)
    first = next(frames)
    size = (first.shape[1] // 2 * 2, first.shape[0] // 2 * 2)
    encoder = Mp4Encoder(CodecConfig(), size=size, fps=SHOWN_RATE, time_base=1 / SHOWN_RATE)
    for number, frame in enumerate(chain([first], frames)):
        encoder.add(_fitted(frame, size), pts=number, duration=1)
    try:
        Path(video).write_bytes(encoder.finish())
    except OSError as error:
        raise ValueError(f"--video {video}: cannot be written ({error.strerror})") from None


def _fitted(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 as large as `size`, (width, height), takes it, in the middle."""
    import cv2

    height, width = frame.shape[:2]
    scale = min(size[0] / width, size[1] / height)
    inner = (max(1, round(width * scale)), max(1, round(height * scale)))
    left, top = ((whole - part) // 2 for whole, part in zip(size, inner, strict=True))
    canvas = np.zeros((size[1], size[0], 3), np.uint8)
    canvas[top : top + inner[1], left : left + inner[0]] = cv2.resize(frame, inner, interpolation=cv2.INTER_AREA)
    return canvas
