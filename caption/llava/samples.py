"""Training samples of the embedded captioner: which frames of what, and what is to be said of them."""

from dataclasses import dataclass

import numpy as np
import torch

from caption.llava.corpus import Shot, Stamp
from curate.dataset.captions import CaptionLevel


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One image or several in order, (T, tokens, 1280) float16 as pooled; what is asked; what is to be answered."""

    features: torch.Tensor
    kind: CaptionLevel
    caption: str


class Corpus:
    """All features in memory, and random samples of them."""

    def __init__(
        self,
        shots: list[tuple[Shot, torch.Tensor]],
        stamps: list[tuple[Stamp, torch.Tensor, tuple[str, ...]]],
        *,
        video_share: float,
        num_frames: int,
    ) -> None:
        self.shots, self.stamps = shots, stamps
        self.video_share, self.num_frames = video_share, num_frames

    def batch(self, rng: np.random.Generator, size: int, kind: CaptionLevel) -> list[Sample]:
        return [self._sample(rng, kind) for _ in range(size)]

    def _sample(self, rng: np.random.Generator, kind: CaptionLevel) -> Sample:
        if not self.stamps or rng.random() < self.video_share:
            return self._video(kind, rng)
        return self._stamp(kind, rng)

    def _video(self, kind: CaptionLevel, rng: np.random.Generator) -> Sample:
        """Frames at the middles of equal parts of a random stretch of a shot, all of one copy."""
        shot, features = self.shots[rng.integers(len(self.shots))]
        _, available, _, _ = features.shape
        most = self.num_frames if rng.random() < 0.8 else int(rng.integers(1, self.num_frames + 1))
        count = min(most, available)
        length = int(rng.integers(count, available + 1))
        start = int(rng.integers(available - length + 1))
        middles = start + ((np.arange(count) + 0.5) * length / count).astype(int)
        copy = int(rng.integers(len(features)))
        caption = shot.dense if kind == "dense" else shot.short[rng.integers(len(shot.short))]
        return Sample(features=features[copy, middles], kind=kind, caption=caption)

    def _stamp(self, kind: CaptionLevel, rng: np.random.Generator) -> Sample:
        """A still: one image, or the same one several times, as the frames of a motionless clip are."""
        stamp, features, colors = self.stamps[rng.integers(len(self.stamps))]
        copy = int(rng.integers(len(features)))
        count = 1 if rng.random() < 0.5 else self.num_frames
        dense = f"{stamp.caption} It is shown alone on a plain {colors[copy]} background. Nothing moves."
        caption = stamp.caption if kind == "short" else dense
        return Sample(features=features[copy].expand(count, -1, -1), kind=kind, caption=caption)
