"""A dataset of videos in shards, encoded and captioned: a colored square drifts over gray."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curate.schema import content_digest
from pipelines.config import load_config
from pipelines.drivers.encode import encode
from tests.support.made_clips import write_made_clips

FPS, FRAMES, HEIGHT, WIDTH = 12, 9, 32, 48
COLORS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 80, 220)}


@dataclass(frozen=True)
class Drifting:
    """A clip by its number."""

    number: int
    split: str

    @property
    def clip_id(self) -> str:
        return content_digest("drifting", str(self.number))

    @property
    def color(self) -> str:
        return list(COLORS)[self.number % len(COLORS)]

    @property
    def caption(self) -> str:
        return f"a {self.color} square at height {self.number}"

    def frames(self) -> np.ndarray:
        """(T, H, W, 3) uint8."""
        rgb = np.full((FRAMES, HEIGHT, WIDTH, 3), 60 + 5 * self.number, np.uint8)
        for t, frame in enumerate(rgb):
            top, left = self.number % (HEIGHT - 10), 4 + 3 * t
            frame[top : top + 10, left : left + 10] = COLORS[self.color]
        return rgb


def make_drifting(out: Path, num_train: int, num_val: int) -> list[Drifting]:
    """Write the dataset."""
    clips = [Drifting(i, "train" if i < num_train else "val") for i in range(num_train + num_val)]
    write_made_clips(str(out), clips, FPS)
    encode(str(out), load_config(None, ["execute.executor=local", "encode.windows=middle"]))
    return clips
