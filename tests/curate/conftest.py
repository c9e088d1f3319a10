"""Tiny generated videos: frames whose number can be read back from the pixels, and scenes with known cuts."""

import io
import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

NUM_BITS = 10


@dataclass(frozen=True)
class NumberedFrames:
    """Frames that carry their number as two rows of black and white blocks, which survive any codec and scaling."""

    width: int = 160
    height: int = 96

    def draw(self, count: int, first: int = 0) -> np.ndarray:
        """`(count, height, width, 3)` uint8."""
        rng = np.random.default_rng(7)
        texture = rng.integers(60, 180, (self.height // 8, self.width // 8, 3), dtype=np.uint8)
        frames = np.repeat([texture.repeat(8, axis=0).repeat(8, axis=1)], count, axis=0)
        half = self.height // 2
        for row, number in enumerate(range(first, first + count)):
            for bit in range(NUM_BITS):
                left, right = (self.width * bit // NUM_BITS, self.width * (bit + 1) // NUM_BITS)
                frames[row, :half, left:right] = 235 if number >> bit & 1 else 20
        return frames

    def read(self, rgb: np.ndarray) -> list[int]:
        """The numbers of `(T, H, W, 3)` frames of any size."""
        band = rgb[:, : rgb.shape[1] // 2].mean(axis=(1, 3))
        numbers = []
        for row in band:
            centers = (np.arange(NUM_BITS) + 0.5) * len(row) / NUM_BITS
            numbers.append(sum(int(row[int(center)] > 128) << bit for bit, center in enumerate(centers)))
        return numbers


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


def encode(
    target: Path | io.BytesIO,
    rgb: np.ndarray,
    *,
    fps: Fraction = Fraction(24),
    codec: str = "libx264",
    container: str | None = None,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    gop: int = 12,
    num_b_frames: int | None = 2,
    rotation: int = 0,
    sample_aspect_ratio: Fraction | None = None,
    with_sound: bool = False,
) -> None:
    """Writes `(T, H, W, 3)` frames with PyAV, apart from the code under test."""
    with av.open(target if isinstance(target, io.BytesIO) else str(target), "w", format=container) as output:
        stream: Any = output.add_stream(codec, rate=fps)
        stream.height, stream.width, stream.pix_fmt = rgb.shape[1], rgb.shape[2], pixel_format
        stream.codec_context.gop_size = gop
        stream.codec_context.thread_count = 1
        stream.options = options or ({"crf": "12", "preset": "fast"} if codec == "libx264" else {})
        if num_b_frames is not None:
            stream.codec_context.max_b_frames = num_b_frames
        base = time_base or 1 / fps
        stream.codec_context.time_base = base
        if sample_aspect_ratio is not None:
            stream.codec_context.sample_aspect_ratio = sample_aspect_ratio
        if rotation:
            stream.set_display_rotation(rotation)
        sound = output.add_stream("aac", rate=16000, layout="mono") if with_sound else None
        for number, picture in enumerate(rgb):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number if pts is None else pts[number], base
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
        if sound is not None:
            seconds = len(rgb) / float(fps)
            silence = av.AudioFrame.from_ndarray(np.zeros((1, int(16000 * seconds)), np.float32), "fltp", "mono")
            silence.sample_rate, silence.pts = 16000, 0
            output.mux(sound.encode(silence))
            output.mux(sound.encode())


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
