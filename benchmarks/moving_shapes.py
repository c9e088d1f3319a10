"""A made dataset: one colored shape per clip moves in one direction over gray, and its caption says so.

    python -m benchmarks.moving_shapes OUT [--train 200] [--held-out 40] [--seed 0]

OUT is a dataset directory that `reelpack encode` has finished: shards, captions of level `short`, latents of the
embedded autoencoder and text embeddings. Clips have several sizes and lengths, images among them. Equal arguments give
equal clips. All that decides a clip's pixels is in OUT/shapes.json: `read(OUT)` gives them back, before any codec.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np

from curate.schema import content_digest
from pipelines.config import load_config
from pipelines.drivers.encode import encode
from tests.support.made_clips import write_made_clips

FPS = 12
COLORS = {
    "red": (220, 40, 40),
    "green": (40, 180, 60),
    "blue": (50, 80, 220),
    "yellow": (235, 220, 50),
    "white": (245, 245, 245),
    "purple": (160, 60, 190),
}
SHAPES = ("square", "circle", "triangle")
DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
"""(y, x), downwards and to the right."""
Size: TypeAlias = tuple[int, int, int]
SIZES: Mapping[Size, float] = {
    (17, 64, 64): 0.5,
    (17, 48, 80): 0.1,
    (17, 80, 48): 0.1,
    (9, 64, 64): 0.1,
    (1, 64, 64): 0.1,
    (1, 80, 48): 0.05,
    (1, 48, 80): 0.05,
}
"""(frames, height, width) in pixels, and their shares."""
SETTINGS = ("execute.executor=local", "encode.windows=middle")
CLIPS = "shapes.json"
LEAST = 20
"""Pixels of a shape that is seen at 64 x 64; the smallest that is drawn has 83."""
DEVIATION = 40
"""Of 255, from the gray: pixels of a shape."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MovingShape:
    """A clip: what is seen, and where. Lengths are pixels, points (y, x), velocities pixels per frame."""

    clip_id: str
    split: str
    shape: str
    color: str
    direction: str
    size: Size
    radius: float
    start: tuple[float, float]
    velocity: tuple[float, float]
    gray: int

    @property
    def caption(self) -> str:
        moves = f" moves {self.direction}" if self.size[0] > 1 else ""
        return f"a {self.color} {self.shape}{moves} on a gray field"

    def centers(self) -> np.ndarray:
        """(T, 2) float64: (y, x) of the shape's center in each frame."""
        return np.array(self.start) + np.arange(self.size[0])[:, None] * np.array(self.velocity)

    def frames(self) -> np.ndarray:
        """(T, H, W, 3) uint8: the true pixels."""
        y, x = np.meshgrid(np.arange(self.size[1]), np.arange(self.size[2]), indexing="ij")
        at = self.centers()[:, :, None, None]
        covered = np.clip(0.5 - _distance(self.shape, y - at[:, 0], x - at[:, 1], self.radius), 0, 1)[..., None]
        return np.rint(covered * COLORS[self.color] + (1 - covered) * self.gray).astype(np.uint8)


def _distance(shape: str, y: np.ndarray, x: np.ndarray, radius: float) -> np.ndarray:
    """Of points from the shape's edge, below 0 inside."""
    if shape == "circle":
        return np.hypot(y, x) - radius
    if shape == "square":
        return np.maximum(abs(y), abs(x)) - 0.85 * radius
    return np.maximum(abs(x) * 3**0.5 / 2 - y / 2, y) - radius / 2  # equilateral, one corner up


def drawn(
    num_train: int = 200, num_held_out: int = 40, seed: int = 0, sizes: Mapping[Size, float] = SIZES
) -> list[MovingShape]:
    """The clips of a dataset: of both splits the same distribution."""
    rng = np.random.default_rng(seed)
    return [
        _drawn(
            rng,
            content_digest("moving shape", str(seed), str(number)),
            "train" if number < num_train else "val",
            sizes,
        )
        for number in range(num_train + num_held_out)
    ]


def _drawn(rng: np.random.Generator, clip_id: str, split: str, sizes: Mapping[Size, float]) -> MovingShape:
    size = list(sizes)[rng.choice(len(sizes), p=list(sizes.values()))]
    direction = str(rng.choice(list(DIRECTIONS)))
    radius = float(rng.uniform(8, 14))
    way, space = np.array(DIRECTIONS[direction]), np.array(size[1:]) - 2 * radius  # where the center can be
    steps = max(1, size[0] - 1)
    speed = min(float(rng.uniform(0.5, 2)), float(space[way != 0][0]) / steps)
    travelled = way * speed * steps * (size[0] > 1)
    start = radius - np.minimum(travelled, 0) + rng.uniform(0, 1, 2) * (space - abs(travelled))
    return MovingShape(
        clip_id=clip_id,
        split=split,
        shape=str(rng.choice(SHAPES)),
        color=str(rng.choice(list(COLORS))),
        direction=direction,
        size=size,
        radius=radius,
        start=(float(start[0]), float(start[1])),
        velocity=(float(way[0] * speed), float(way[1] * speed)),
        gray=int(rng.integers(60, 150)),
    )


def make(
    out: str | Path,
    num_train: int = 200,
    num_held_out: int = 40,
    seed: int = 0,
    settings: Sequence[str] = (),
    sizes: Mapping[Size, float] = SIZES,
) -> list[MovingShape]:
    """Write the dataset, or what of it is missing, and give its clips.

    Args:
        settings: of `encode`, beside `SETTINGS`.
        sizes: frames, height and width, and their shares.

    Raises:
        ValueError: other clips are there.
    """
    clips, known = drawn(num_train, num_held_out, seed, sizes), Path(out) / CLIPS
    if not known.exists():
        write_made_clips(str(out), clips, FPS)
        known.write_text(json.dumps([asdict(clip) for clip in clips], indent=1))
    elif list(read(out).values()) != clips:
        raise ValueError(f"{out} has other moving shapes; choose another folder, or the numbers and seed of these")
    encode(str(out), load_config(None, [*SETTINGS, *settings]))
    return clips


def read(out: str | Path) -> dict[str, MovingShape]:
    """The clips of a dataset that `make` wrote, by id."""
    rows: list[dict[str, Any]] = json.loads((Path(out) / CLIPS).read_text())
    tuples = ("size", "start", "velocity")
    clips = [MovingShape(**row | {name: tuple(row[name]) for name in tuples}) for row in rows]
    return {clip.clip_id: clip for clip in clips}


def shape_of(frame: np.ndarray) -> np.ndarray:
    """(H, W) bool: the largest piece that deviates from the gray around it; nothing if it is small."""
    ground = np.median(frame.reshape(-1, 3), axis=0)
    deviates = (np.abs(frame - ground).max(-1) > DEVIATION).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(deviates)
    sizes = stats[1:, cv2.CC_STAT_AREA]
    if not len(sizes) or sizes.max() < LEAST:
        return np.zeros(frame.shape[:2], bool)
    return np.asarray(labels == 1 + int(sizes.argmax()))


def color_of(frame: np.ndarray, shape: np.ndarray) -> str:
    """The nearest of `COLORS` to the median of a shape's pixels in (H, W, 3) uint8."""
    colors = np.array(list(COLORS.values()))
    return list(COLORS)[int(np.square(colors - np.median(frame[shape], axis=0)).sum(1).argmin())]


def direction_of(centers: np.ndarray) -> str:
    """Of `DIRECTIONS`, that in which (T, 2) centers (y, x) move from the first to the last."""
    moved = centers[-1] - centers[0]
    return max(DIRECTIONS, key=lambda name: float(np.dot(DIRECTIONS[name], moved)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", type=int, default=200, help="clips that train")
    parser.add_argument("--held-out", type=int, default=40, help="clips that do not")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    clips = make(arguments.out, arguments.train, arguments.held_out, arguments.seed)
    print(f"{len(clips)} clips in {arguments.out}, such as {clips[0].caption!r}")


if __name__ == "__main__":
    main()
