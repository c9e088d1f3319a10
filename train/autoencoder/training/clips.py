"""Samples to train on: which clips are in memory at a step, and what is drawn of them.

Everything is a function of seed, step and rank, so a resumed run sees what it would have seen. Clips are decoded once,
at a small size, into a window that moves over them; a step draws from the window. With a window as large as the
dataset each clip is decoded once in the run.
"""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from curate.schema import MediaError
from train.autoencoder.training.config import ClipsConfig

logger = logging.getLogger(__name__)
STEPS_AHEAD = 8
"""Steps before which a clip begins to be decoded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """A clip that can be read; an image has one frame."""

    clip_id: str
    num_frames: int


class ClipSource(Protocol):
    """Where clips come from; read by several threads."""

    train: Sequence[Clip]
    held_out: Sequence[Clip]

    @property
    def key(self) -> str:
        """Digest of all that is trained and measured on."""

    def read(self, clip: Clip, start: int, num_frames: int, short_side_px: int) -> np.ndarray:
        """(num_frames, H, W, 3) uint8 from frame `start` on; larger frames are scaled down to the short side.

        Raises:
            MediaError: it cannot be decoded.
            OSError, ValueError: it cannot be read, or holds other bytes than the index says.
        """


class Window:
    """Which clips a step draws from: `size` of them, in an order that is another one in each epoch.

    Args:
        num_clips: of the source.
        size: clips in the window, at most.
        per_step: clips that take the place of others at each step.
        seed: of the order.
    """

    def __init__(self, num_clips: int, size: int, per_step: float, seed: int) -> None:
        self._num_clips, self._seed = num_clips, seed
        self.size = min(size, num_clips)
        self._per_step = per_step if self.size < num_clips else 0.0
        self._order = lru_cache(maxsize=2)(self._draw_order)

    def positions(self, step: int) -> range:
        """Places in the endless order."""
        first = int(step * self._per_step)
        return range(first, first + self.size)

    def clip(self, position: int) -> int:
        """Which clip stands at a place."""
        epoch, place = divmod(position, self._num_clips)
        return int(self._order(epoch)[place])

    def _draw_order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self._seed, 1, epoch)).permutation(self._num_clips)


class Batches:
    """Batches of one rank.

    Args:
        source: of the clips.
        config: what is drawn.
        seed: of all draws.
        rank, num_ranks: each rank has a window of its own over its part of the clips, and draws of its own.
    """

    def __init__(self, source: ClipSource, config: ClipsConfig, seed: int, rank: int = 0, num_ranks: int = 1) -> None:
        self._source, self._config, self._seed, self._rank = source, config, seed, rank
        self._clips = source.train[rank::num_ranks] or source.train
        sample_px = float(np.mean([length * h * w for length in config.lengths for h, w in config.sizes_px]))
        per_step = max(1.0, config.batch_px / sample_px) / config.samples_per_clip
        self._window = Window(len(self._clips), config.window, per_step, seed)
        self._decoded: dict[int, Future[np.ndarray | None]] = {}

    def steps(self, first: int, pool: ThreadPoolExecutor) -> Iterator[Tensor]:
        """(B, 3, T, H, W) float32 in [-1, 1] of step `first` and of those that follow, without end.

        Raises:
            ValueError: no clip of a window can be decoded, or one holds other bytes than the index says.
        """
        step = first
        while True:
            yield self.batch(step, pool)
            step += 1

    def batch(self, step: int, pool: ThreadPoolExecutor) -> Tensor:
        """The batch of a step; clips of later steps begin to be decoded."""
        here, later = self._window.positions(step), self._window.positions(step + STEPS_AHEAD)
        for position in (*here, *later):
            if position not in self._decoded:
                self._decoded[position] = pool.submit(self._decode, position)
        for position in [one for one in self._decoded if one < here.start]:
            del self._decoded[position]
        rng = np.random.default_rng((self._seed, 0, step, self._rank))
        return self._draw(self._frames(here), rng)

    def _frames(self, positions: range) -> list[np.ndarray]:
        found = [frames for position in positions if (frames := self._decoded[position].result()) is not None]
        if not found:
            raise ValueError(f"none of {len(positions)} clips can be decoded; `reelpack verify` finds all like them")
        return found

    def _decode(self, position: int) -> np.ndarray | None:
        clip = self._clips[self._window.clip(position)]
        count = min(clip.num_frames, self._config.max_frames)
        start = int(np.random.default_rng((self._seed, 2, position)).integers(clip.num_frames - count + 1))
        try:
            return self._source.read(clip, start, count, self._config.decoded_px)
        except MediaError as error:
            logger.warning("clip %s is left out: %s", clip.clip_id, error)
            return None

    def _draw(self, frames: Sequence[np.ndarray], rng: np.random.Generator) -> Tensor:
        config = self._config
        height, width = config.sizes_px[rng.integers(len(config.sizes_px))]
        length, frame_step = self._length(max(map(len, frames)), rng)
        span = (length - 1) * frame_step + 1
        long_enough = [clip for clip in frames if len(clip) >= span]
        starts = np.array([len(clip) - span + 1 for clip in long_enough])  # a frame of any clip is as likely
        count = max(1, round(config.batch_px / (length * height * width)))
        samples = []
        for row in rng.choice(len(long_enough), count, p=starts / starts.sum()):
            start = int(rng.integers(starts[row]))
            shown = long_enough[row][start : start + span : frame_step]
            samples.append(augment(crop(shown, (height, width), config.short_side_px, rng), config, rng))
        return torch.stack(samples).transpose(1, 2)

    def _length(self, longest: int, rng: np.random.Generator) -> tuple[int, int]:
        """Frames of the samples and their distance, as far as the longest clip allows."""
        lengths, odds = drawable(self._config, longest)
        length = int(rng.choice(lengths, p=odds))
        steps = [step for step in self._config.frame_steps if (length - 1) * step < longest]
        return length, int(rng.choice(steps)) if steps else 1


def drawable(config: ClipsConfig, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """The lengths that a clip of `longest` frames has, with their odds; 1 where there are none."""
    odds = config.length_odds or (1.0,) * len(config.lengths)
    usable = [(length, odd) for length, odd in zip(config.lengths, odds, strict=True) if length <= longest]
    lengths, weights = np.array(usable or [(1, 1.0)]).T
    return lengths.astype(int), weights / weights.sum()


def crop(
    rgb: np.ndarray, size: tuple[int, int], short_side_px: tuple[float, float], rng: np.random.Generator
) -> Tensor:
    """(T, h, w, 3) uint8 to (T, 3, H, W) float32 in [-1, 1]: a random part, at a random scale.

    Frames that are smaller than the crop are enlarged.
    """
    height, width = size
    full_h, full_w = rgb.shape[1:3]
    short_side = np.exp(rng.uniform(*np.log(short_side_px)))
    scale = min(min(full_h, full_w) / short_side, full_h / height, full_w / width)
    h, w = (max(1, min(full, round(side * scale))) for full, side in ((full_h, height), (full_w, width)))
    y, x = int(rng.integers(full_h - h + 1)), int(rng.integers(full_w - w + 1))
    part = torch.from_numpy(np.ascontiguousarray(rgb[:, y : y + h, x : x + w])).permute(0, 3, 1, 2)
    return F.interpolate(part, size=size, mode="bilinear", antialias=True).float() / 127.5 - 1.0


def augment(clip: Tensor, config: ClipsConfig, rng: np.random.Generator) -> Tensor:
    """Mirrors (T, 3, H, W) in [-1, 1], and sometimes adds colors and bars that the clips lack."""
    if rng.random() < config.flip:
        clip = clip.flip(-1)
    if rng.random() < config.recolor:
        gain = torch.from_numpy(rng.uniform(0.5, 1.3, (3, 1, 1)).astype(np.float32))
        offset = torch.from_numpy(rng.uniform(-0.3, 0.3, (3, 1, 1)).astype(np.float32))
        clip = (clip[:, rng.permutation(3)] * gain + offset).clamp(-1.0, 1.0)
    if rng.random() < config.bars:
        bar = int(rng.integers(1, max(2, clip.shape[-2] // 4)))
        clip = clip.clone()
        clip[..., :bar, :] = -1.0
        clip[..., -bar:, :] = -1.0
    return clip
