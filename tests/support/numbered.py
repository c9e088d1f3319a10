"""Tiny videos: frames whose number can be read back from the pixels, with clicks at known times."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from curate.media.scheduling import own_scheduling

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
    clicks_s: Sequence[float] = (),
    sound_codec: str = "aac",
    sound_rate: int = 16000,
    sound_s: float | None = None,
) -> None:
    """Writes `(T, H, W, 3)` frames with PyAV, apart from the code under test; sound with clicks, in seconds from the
    first frame, as long as the picture or `sound_s`."""
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
        sound = output.add_stream(sound_codec, rate=sound_rate, layout="mono") if with_sound else None
        for number, picture in enumerate(rgb):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number if pts is None else pts[number], base
            with own_scheduling():
                output.mux(stream.encode(frame))
        output.mux(stream.encode())
        if sound is not None:
            seconds = len(rgb) / float(fps) if sound_s is None else sound_s
            for packet in _encoded(sound, clicks(seconds, clicks_s, sound_rate), sound_rate):
                output.mux(packet)


def _encoded(stream: Any, samples: np.ndarray, rate: int) -> list[av.Packet]:
    frame = av.AudioFrame.from_ndarray(samples, "fltp", "mono")
    frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
    resampler = av.AudioResampler(format=stream.format.name, layout="mono", rate=rate, frame_size=stream.frame_size)
    frames = [*resampler.resample(frame), *resampler.resample(None)]
    return [packet for part in (*frames, None) for packet in stream.encode(part)]


def clicks(seconds: float, at_s: Sequence[float], rate: int) -> np.ndarray:
    """`(1, n)` float32: silence with clicks of 2 ms."""
    samples = np.zeros((1, round(seconds * rate)), np.float32)
    for moment in at_s:
        begin = round(moment * rate)
        samples[:, begin : begin + rate // 500] = 0.8
    return samples


def click_times_s(samples: np.ndarray, rate: int) -> list[float]:
    """When the clicks of `(1, n)` samples begin, seconds."""
    loud = np.flatnonzero(np.abs(samples[0]) > 0.25)
    begins = [at for number, at in enumerate(loud) if not number or at - loud[number - 1] > rate // 50]
    return [float(at) / rate for at in begins]
