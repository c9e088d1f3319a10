"""Tiny generated videos: frames whose number can be read back from the pixels, and scenes with known cuts."""

import wave
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.encoders.base import EncoderPool
from tests.support.numbered import NumberedFrames, encode


@pytest.fixture(scope="session")
def encoders() -> EncoderPool:
    """What the tests of encoders and of scorers share, as the scorers of a worker do: ConSE takes seconds to load."""
    return EncoderPool()


@pytest.fixture(scope="session")
def numbered() -> NumberedFrames:
    return NumberedFrames()


def scenes(lengths: Sequence[int], width: int = 160, height: int = 96) -> np.ndarray:
    """Scenes of the given lengths in frames, `(sum, height, width, 3)`: a different picture each, panning slowly."""
    frames = []
    for seed, length in enumerate(lengths):
        rng = np.random.default_rng(seed)
        cells = rng.integers(0, 256, (height // 16 + 1, width // 16 + 12, 3)).astype(np.uint8)
        picture = cells.repeat(16, axis=0).repeat(16, axis=1)
        frames += [picture[:height, shift : shift + width] for shift in range(length)]
    return np.stack(frames)


@pytest.fixture(scope="session")
def draw_scenes() -> Callable[..., np.ndarray]:
    return scenes


@pytest.fixture
def write_video(tmp_path: Path) -> Callable[..., str]:
    """`write_video(name, rgb, **encoding) -> path`, in this test's own folder."""

    def write(name: str, rgb: np.ndarray, **encoding: Any) -> str:
        path = tmp_path / name
        encode(path, rgb, **encoding)
        return str(path)

    return write


@pytest.fixture
def write_sound(tmp_path: Path) -> Callable[[str], str]:
    """A file with sound and no picture."""

    def write(name: str) -> str:
        path = tmp_path / name
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes(bytes(8000))
        return str(path)

    return write
