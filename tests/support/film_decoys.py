"""What happens inside a shot and is no cut: flashes, exposure jumps, shake, fast pans, scrolling credits, text."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

Apply = Callable[[np.ndarray, int, int, tuple[int, int], np.random.Generator], np.ndarray]
"""`(n, H, W, 3)` frames of a shot, the frames [first, end) in which it happens, `(height, width)` of the film → `(n,
height, width, 3)`."""


@dataclass(frozen=True, kw_only=True)
class DecoyKind:
    """One of them: its number of frames is drawn from `lengths`; the shot is read at `scale` times the film's size."""

    lengths: tuple[int, int]
    apply: Apply
    scale: float = 1.0


def flash(frames: np.ndarray, first: int, end: int, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Nearly white."""
    weight = rng.uniform(0.6, 0.95)
    frames[first:end] = np.rint(frames[first:end] * (1 - weight) + 255 * weight)
    return frames


def exposure(frames: np.ndarray, first: int, end: int, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """From frame to frame brighter or darker, up to the end of the shot."""
    gains = np.ones(len(frames), np.float32)
    gains[first:] = rng.choice([0.55, 0.7, 1.4, 1.7])
    return np.stack([cv2.convertScaleAbs(frame, alpha=float(gain)) for frame, gain in zip(frames, gains, strict=True)])


def shake(frames: np.ndarray, first: int, end: int, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Each frame is moved by up to 5 % of the picture."""
    room = np.subtract(frames.shape[1:3], size)
    offsets = np.tile(room // 2, (len(frames), 1))
    offsets[first:end] = rng.integers(0, room + 1, (end - first, 2))
    return cropped(frames, offsets, size)


def pan(frames: np.ndarray, first: int, end: int, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Half a picture's width within a few frames."""
    room = np.subtract(frames.shape[1:3], size)
    progress = np.interp(np.arange(len(frames)), [first, end], [0, 1])
    if rng.random() < 0.5:
        progress = 1 - progress
    return cropped(frames, np.stack([np.full(len(frames), room[0] // 2), progress * room[1]], 1).astype(int), size)


def cropped(frames: np.ndarray, offsets: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.stack(
        [frame[top : top + size[0], left : left + size[1]] for frame, (top, left) in zip(frames, offsets, strict=True)]
    )


def credits_(frames: np.ndarray, first: int, end: int, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Lines of text that enter at the bottom and leave at the top."""
    height, width = size
    step = height // 9
    for number in range(first, end):
        top = height - (number - first) * (height + 6 * step) / (end - first)
        for line in range(6):
            write(frames[number], f"Name {line} of a person", (width // 4, int(top + line * step)), height)
    return frames


def text(frames: np.ndarray, first: int, end: int, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A title that is there from one frame to the next."""
    height, width = size
    left, top = int(rng.integers(width // 10, width // 3)), int(rng.integers(height // 4, height * 9 // 10))
    for frame in frames[first:end]:
        write(frame, "THE NEXT DAY", (left, top), 2 * height)
    return frames


def write(frame: np.ndarray, words: str, at: tuple[int, int], height: int) -> None:
    scale, thickness = height / 400, max(1, height // 200)
    for color, width in (((0, 0, 0), 3 * thickness), ((255, 255, 255), thickness)):
        cv2.putText(frame, words, at, cv2.FONT_HERSHEY_SIMPLEX, scale, color, width, cv2.LINE_AA)


DECOYS = {
    "flash": DecoyKind(lengths=(1, 3), apply=flash),
    "exposure": DecoyKind(lengths=(1, 1), apply=exposure),
    "shake": DecoyKind(lengths=(8, 16), apply=shake, scale=1.1),
    "pan": DecoyKind(lengths=(8, 16), apply=pan, scale=1.5),
    "credits": DecoyKind(lengths=(16, 60), apply=credits_),
    "text": DecoyKind(lengths=(12, 40), apply=text),
}
