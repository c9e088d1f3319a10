"""Real clips as generated videos are: pixels of one size, length and rate, read from a dataset's shards."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from curate.dataset.captions import TEXT_LEVELS, caption_column, texts_of
from curate.dataset.layout import Layout
from curate.media.decode import clip_frames, clip_times
from curate.shards.tar import PLACE, TarReader, read_member
from train.autoencoder.config import EncodeConfig
from train.autoencoder.record import config_of
from train.autoencoder.sizes import target_size
from train.autoencoder.windows import middle_of, windows_of
from train.data.blend import reference_text
from train.data.index import read_index

COLUMNS = ["clip_id", "split", "kind", *PLACE, "num_frames", "height", "width", "duration_s"]
SLACK = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """What all videos of an evaluation have: pixels, frames, and frames per second (0 of one frame)."""

    width: int
    height: int
    num_frames: int
    fps: float

    def __str__(self) -> str:
        return f"{self.num_frames} frames of {self.width}x{self.height}"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RealClip:
    """A row of a dataset's index."""

    row: dict[str, Any]
    shards: str

    @property
    def clip_id(self) -> str:
        return str(self.row["clip_id"])

    @property
    def caption(self) -> str:
        """That which a clip is validated under; "" where it has none."""
        texts = texts_of(self.row)
        return texts.get(reference_text(texts) or "", "")

    def num_frames(self, fps: float | None) -> int:
        """At this rate; None: its own."""
        if self.row["kind"] == "image" or self.row["num_frames"] == 1:
            return 1
        return int(self.row["num_frames"] if fps is None else math.ceil(self.row["duration_s"] * fps - SLACK))

    def fits(self, view: View) -> bool:
        """A picture is compared with pictures alone."""
        count = self.num_frames(view.fps or None)
        return count == 1 if view.num_frames == 1 else count >= view.num_frames

    def encoded(self, config: EncodeConfig, temporal_stride: int) -> tuple[int, int, int]:
        """Width, height and frames of (the first window of) its latent."""
        rule = windows_of if config.windows == "all" else middle_of
        count = self.num_frames(config.fps)
        window = rule(count, max_frames=config.max_frames, temporal_stride=temporal_stride)[0]
        sides = (self.row["height"], self.row["width"])
        height, width = target_size(*sides, max_area_px=config.max_area_px, multiple_px=config.multiple_px)
        return width, height, window.num_frames

    def frames(self, view: View) -> np.ndarray:
        """(T, H, W, 3) uint8: the middle of the clip, cut to the view's shape around the picture's middle.

        Raises:
            MediaError, OSError, ValueError: it cannot be read.
        """
        data = read_member(TarReader(self.shards), self.row)
        times = clip_times(data)
        indices = times.at(view.fps or None)
        start = (len(indices) - view.num_frames) // 2
        if start < 0:
            raise ValueError(f"clip {self.clip_id} has {len(indices)} of {view.num_frames} frames")
        frames = clip_frames(data, times, indices[start : start + view.num_frames], _covering(view.height, view.width))
        rgb = np.stack(list(frames))
        top, left = (rgb.shape[1] - view.height) // 2, (rgb.shape[2] - view.width) // 2
        return rgb[:, top : top + view.height, left : left + view.width]


def read_clips(datasets: Sequence[str], split: str) -> list[RealClip]:
    """All clips of a split, in random order, always the same.

    Raises:
        ValueError: there is no index, or one without what finds the clips.
    """
    found = []
    for dataset in datasets:
        layout = Layout(dataset.rstrip("/"))
        captions = [caption_column(level) for level in TEXT_LEVELS]
        table = read_index(layout.index, "reelpack curate", ["clip_id"], COLUMNS, captions)
        found += [RealClip(row=row, shards=layout.shards) for row in table.to_pylist() if row["split"] == split]
    found.sort(key=lambda clip: clip.clip_id)
    return [found[i] for i in np.random.default_rng(0).permutation(len(found))]


def encoded_views(clips: Sequence[RealClip], latents: dict[str, Any]) -> Counter[tuple[int, int, int]]:
    """Width, height and frames that clips are encoded at, and how many; empty where the record does not say."""
    if "config" not in latents:
        return Counter()
    config, stride = config_of(latents), int(latents["temporal_stride"])
    return Counter(clip.encoded(config, stride) for clip in clips)


def _covering(to_height: int, to_width: int) -> Callable[[int, int], tuple[int, int]]:
    """Sizes of pictures that just cover this one, in their own shape."""

    def size(height: int, width: int) -> tuple[int, int]:
        scale = max(to_height / height, to_width / width)
        return max(to_height, round(height * scale)), max(to_width, round(width * scale))

    return size
