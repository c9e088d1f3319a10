"""Generated videos for the tests of the drivers."""

from pathlib import Path

import numpy as np

from curate.media.encode import encode_mp4

FPS = 12


def moving(seed: int, seconds: float, size: tuple[int, int] = (96, 128)) -> np.ndarray:
    """A shot: one random picture that slides slowly, (T, H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    height, width = size
    cells = rng.integers(0, 256, (height // 16, width // 8, 3), dtype=np.uint8)
    picture = cells.repeat(16, 0).repeat(16, 1)
    return np.stack([picture[:, t : t + width] for t in range(round(seconds * FPS))])


def write_video(path: Path, frames: np.ndarray, fps: int = FPS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_mp4(frames, fps))
