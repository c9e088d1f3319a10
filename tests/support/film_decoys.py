"""What happens inside a shot and is no cut: flashes, exposure jumps, shake, fast pans, scrolling credits, text, and
harder ones: strobes, explosions, whip pans, crash zooms, bars, a flash at a cut, a shot that moves throughout."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

Apply = Callable[[np.ndarray, int, int, tuple[int, int], np.random.Generator], np.ndarray]
"""`(n, H, W, 3)` frames of a shot, the frames [first, end) in which it happens, `(height, width)` of the film → `(n,
height, width, 3)`."""


@dataclass(frozen=True, kw_only=True)
class DecoyKind:
    """One of them.

    Attributes:
        lengths: Fewest and most frames.
        scale: The shot is read at so many times the film's size.
        place: `inside` is away from the shot's ends, `start` its first frames, `whole` all of it, its transitions too.
    """

    lengths: tuple[int, int]
    apply: Apply
    scale: float = 1.0
    place: Literal["inside", "start", "whole"] = "inside"


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


def strobe(frames: np.ndarray, first: int, end: int, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Every second or third frame is nearly white or nearly black."""
    light, step = int(rng.choice([0, 255])), int(rng.integers(2, 4))
    frames[first:end:step] = np.rint(frames[first:end:step] * 0.15 + light * 0.85)
    return frames


def explosion(frames: np.ndarray, first: int, end: int, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """The picture is lit within two frames, glows orange, and shakes."""
    glow, height, width = np.array([255, 190, 90]), *size
    room = np.subtract(frames.shape[1:3], size)
    offsets = np.tile(room // 2, (len(frames), 1))
    offsets[first:end] = rng.integers(0, room + 1, (end - first, 2))
    shown = cropped(frames, offsets, size)
    y, x = np.mgrid[:height, :width]
    near = np.exp(-(((x / width - rng.uniform(0.3, 0.7)) ** 2 + (y / height - 0.5) ** 2) / 0.3))[:, :, None]
    for number in range(first, end):
        weight = min(1, (number - first + 1) / 2) * 0.9 * (1 - (number - first) / (end - first)) * near**0.5
        shown[number] = np.rint(shown[number] * (1 - weight) + glow * weight)
    return shown


def whip(frames: np.ndarray, first: int, end: int, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A pan with the blur of motion."""
    shown = pan(frames, first, end, size, rng)
    length = max(3, (frames.shape[2] - size[1]) // (end - first))
    for number in range(first, end):
        shown[number] = cv2.blur(shown[number], (length, 1))
    return shown


def zoom(frames: np.ndarray, first: int, end: int, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Into the picture, by half, up to the end of the shot."""
    height, width = size
    closer = np.interp(np.arange(len(frames)), [first, end], [1, 1 / 1.5])
    if rng.random() < 0.5:
        closer = closer[::-1]
    shown = []
    for frame, share in zip(frames, closer, strict=True):
        high, wide = round(frame.shape[0] * share), round(frame.shape[1] * share)
        top, left = (frame.shape[0] - high) // 2, (frame.shape[1] - wide) // 2
        part = frame[top : top + high, left : left + wide]
        shown.append(cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA))
    return np.stack(shown)


def bars(frames: np.ndarray, first: int, end: int, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Black bars above and below are there from one frame to the next, up to the end of the shot."""
    height = int(size[0] * rng.uniform(0.08, 0.14))
    frames[first:, :height] = frames[first:, -height:] = 0
    return frames


def drift(frames: np.ndarray, first: int, end: int, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """The camera moves throughout."""
    room = np.subtract(frames.shape[1:3], size)
    progress = np.linspace(0, 1, len(frames))[:, None] * min(1, len(frames) * rng.uniform(0.005, 0.02))
    corner = rng.integers(0, 2, 2)
    return cropped(frames, (np.abs(corner - progress) * room).astype(int), size)


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
    "strobe": DecoyKind(lengths=(12, 40), apply=strobe),
    "explosion": DecoyKind(lengths=(12, 36), apply=explosion, scale=1.1),
    "whip": DecoyKind(lengths=(5, 9), apply=whip, scale=1.5),
    "zoom": DecoyKind(lengths=(6, 24), apply=zoom, scale=1.5),
    "bars": DecoyKind(lengths=(1, 1), apply=bars),
    "flash_at_cut": DecoyKind(lengths=(1, 2), apply=flash, place="start"),
    "drift": DecoyKind(lengths=(1, 1), apply=drift, scale=1.4, place="whole"),
}
COMMON = ("flash", "exposure", "shake", "pan", "credits", "text")
HARD = ("strobe", "explosion", "whip", "zoom", "bars", "flash_at_cut")
