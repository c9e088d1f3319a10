"""Batches that the embedded autoencoder is trained on: random crops, scales and frame rates of the training video."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from curate.encoders.training_video import FPS, NUM_FRAMES, is_held_out
from curate.storage.publish import publish

CACHE_SHORT_SIDE_PX = 160
LENGTHS = (1, 5, 9, 13, 17)
LENGTH_ODDS = (0.2, 0.1, 0.3, 0.1, 0.3)
CROPS_PX = ((64, 64), (64, 96), (96, 64), (80, 128))
FRAME_STEPS = (1, 2, 3)  # 24, 12 and 8 frames per second
SHORT_SIDE_PX = (72.0, 160.0)


def cache_frames(frames: Iterable[np.ndarray], path: Path) -> np.ndarray:
    """Writes the video's frames, (h, w, 3) uint8 each, to one `.npy` that is mapped, not loaded; or finds it.

    Raises:
        ValueError: The video has fewer frames than the recipe uses.
    """
    if not path.exists():
        with publish(str(path)) as file:
            count = 0
            for rgb in islice(frames, NUM_FRAMES):
                if not count:
                    header = {"descr": "|u1", "fortran_order": False, "shape": (NUM_FRAMES, *rgb.shape)}
                    np.lib.format.write_array_header_1_0(file, header)
                file.write(np.ascontiguousarray(rgb, np.uint8).data)
                count += 1
            if count < NUM_FRAMES:
                raise ValueError(
                    f"got {count} frames of the video; expected at least {NUM_FRAMES} (480 s at {FPS} fps)"
                )
    return np.load(path, mmap_mode="r")


@dataclass(frozen=True, kw_only=True, slots=True)
class FilmClips:
    """Batches as a pure function of seed and step, so a resumed run sees what it would have seen.

    `frames` is (NUM_FRAMES, 160, w, 3) uint8; `batch_px` the pixels (frames x height x width) of a batch.
    """

    frames: np.ndarray
    batch_px: int
    seed: int

    def batch(self, step: int) -> Tensor:
        """(B, 3, T, H, W) float32 in [-1, 1]; B such that a batch has about `batch_px` pixels."""
        rng = np.random.default_rng((self.seed, step))
        length = int(rng.choice(LENGTHS, p=LENGTH_ODDS))
        height, width = CROPS_PX[rng.integers(len(CROPS_PX))]
        size = max(1, round(self.batch_px / (length * height * width)))
        clips = [self._clip(rng, length, height, width) for _ in range(size)]
        return torch.stack(clips).permute(0, 2, 1, 3, 4)

    def _clip(self, rng: np.random.Generator, length: int, height: int, width: int) -> Tensor:
        frame_step = int(rng.choice(FRAME_STEPS))
        span = (length - 1) * frame_step + 1
        start = int(rng.integers(NUM_FRAMES - span))
        while is_held_out(start, start + span):
            start = int(rng.integers(NUM_FRAMES - span))

        _, full_h, full_w, _ = self.frames.shape
        short_side = np.exp(rng.uniform(*np.log(SHORT_SIDE_PX)))
        scale = min(CACHE_SHORT_SIDE_PX / short_side, full_h / height, full_w / width)
        h, w = min(full_h, round(height * scale)), min(full_w, round(width * scale))
        y, x = int(rng.integers(full_h - h + 1)), int(rng.integers(full_w - w + 1))
        window = self.frames[start : start + span : frame_step, y : y + h, x : x + w]
        clip = torch.from_numpy(np.ascontiguousarray(window)).permute(0, 3, 1, 2)  # (T, 3, h, w)
        clip = F.interpolate(clip, size=(height, width), mode="bilinear", antialias=True)
        return augment(clip.float() / 127.5 - 1.0, rng)


def augment(clip: Tensor, rng: np.random.Generator) -> Tensor:
    """Flips (T, 3, H, W) in [-1, 1], and now and then adds colors and bars that the video lacks."""
    if rng.random() < 0.5:
        clip = clip.flip(-1)
    if rng.random() < 0.25:
        gain = torch.from_numpy(rng.uniform(0.5, 1.3, (3, 1, 1)).astype(np.float32))
        offset = torch.from_numpy(rng.uniform(-0.3, 0.3, (3, 1, 1)).astype(np.float32))
        clip = (clip[:, rng.permutation(3)] * gain + offset).clamp(-1.0, 1.0)
    if rng.random() < 0.05:
        bar = int(rng.integers(1, clip.shape[-2] // 4))
        clip = clip.clone()
        clip[..., :bar, :] = -1.0
        clip[..., -bar:, :] = -1.0
    return clip
