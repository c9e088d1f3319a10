"""Where the clips of a training come from: the shards of a dataset, or one film."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from curate.encoders.training_video import EXCERPTS, FPS, NUM_FRAMES
from curate.media.decode import clip_frames, clip_times, within_short_side
from curate.schema import FailureKind, MediaError, content_digest
from curate.shards.tar import TarReader, read_member
from curate.storage.publish import publish
from train.autoencoder.training.clips import Clip

FILM_CLIP_FRAMES = 129
MISSING = "put the shards back, or `reelpack curate` the inputs into another dataset"


class ShardClips:
    """The clips and images of a dataset.

    Args:
        rows: of its index: clip_id, split, shard, offset, size, digest, num_frames.
        shards: folder of the shards.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], shards: str) -> None:
        ordered = sorted(rows, key=lambda row: str(row["clip_id"]))
        self._rows = {row["clip_id"]: row for row in ordered}
        self._reader = TarReader(shards)
        clips = {split: [_clip(row) for row in ordered if row["split"] == split] for split in ("train", "val")}
        self.train: Sequence[Clip] = clips["train"]
        self.held_out: Sequence[Clip] = clips["val"]

    @property
    def key(self) -> str:
        said = (f"{name} {row['digest']} {row['split']}" for name, row in self._rows.items())
        return content_digest("autoencoder clips", *said)

    def read(self, clip: Clip, start: int, num_frames: int, short_side_px: int) -> np.ndarray:
        try:
            data = read_member(self._reader, self._rows[clip.clip_id])
        except FileNotFoundError as error:
            raise ValueError(f"clip {clip.clip_id}: {error}; {MISSING}") from error
        times = clip_times(data)
        if len(times.pts) < start + num_frames:
            detail = f"got {len(times.pts)} frames, and the index says {clip.num_frames}"
            raise MediaError(FailureKind.CORRUPT, detail)
        numbers = np.arange(start, start + num_frames)
        return np.stack(list(clip_frames(data, times, numbers, within_short_side(short_side_px))))


def _clip(row: Mapping[str, Any]) -> Clip:
    return Clip(clip_id=row["clip_id"], num_frames=row["num_frames"])


class FilmClips:
    """The film that the embedded models are trained on, in clips that touch no excerpt of the demo.

    The excerpts are the held-out clips.

    Args:
        frames: (NUM_FRAMES, h, w, 3) uint8, mapped.
    """

    def __init__(self, frames: np.ndarray) -> None:
        self._frames = frames
        edges = [0, *(edge for excerpt in EXCERPTS for edge in excerpt), NUM_FRAMES]
        self._starts: dict[str, int] = {}
        self.train: Sequence[Clip] = [
            clip for start, end in list(pairwise(edges))[::2] for clip in self._clips(start, end)
        ]
        self.held_out: Sequence[Clip] = [clip for start, end in EXCERPTS for clip in self._clips(start, end)]

    def _clips(self, start: int, end: int) -> Iterable[Clip]:
        for first in range(start, end, FILM_CLIP_FRAMES):
            name = f"frames-{first:06d}"
            self._starts[name] = first
            yield Clip(clip_id=name, num_frames=min(FILM_CLIP_FRAMES, end - first))

    @property
    def key(self) -> str:
        return content_digest("autoencoder film", str(self._frames.shape))

    def read(self, clip: Clip, start: int, num_frames: int, short_side_px: int) -> np.ndarray:
        first = self._starts[clip.clip_id] + start
        return self._frames[first : first + num_frames]


def cache_frames(frames: Iterable[np.ndarray], path: Path) -> np.ndarray:
    """Writes the film's frames, (h, w, 3) uint8 each, to one `.npy` that is mapped, not loaded; or finds it.

    Raises:
        ValueError: The video has fewer frames than are used.
    """
    if not path.exists():
        with publish(str(path)) as file:
            count = 0
            for rgb in frames:
                if not count:
                    header = {"descr": "|u1", "fortran_order": False, "shape": (NUM_FRAMES, *rgb.shape)}
                    np.lib.format.write_array_header_1_0(file, header)
                file.write(np.ascontiguousarray(rgb, np.uint8).data)
                count += 1
                if count == NUM_FRAMES:
                    break
            if count < NUM_FRAMES:
                raise ValueError(
                    f"got {count} frames of the video; expected at least {NUM_FRAMES} (480 s at {FPS} fps)"
                )
    frames_on_disk: np.ndarray = np.load(path, mmap_mode="r")
    return frames_on_disk
