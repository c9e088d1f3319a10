"""Frames to what autoencoders take, and what they give to frames."""

import math
from collections.abc import Iterator
from functools import partial
from itertools import islice

import numpy as np
import torch

from curate.media.decode import ClipTimes, Size
from curate.media.readers.frames import FrameReader
from train.autoencoder.base import VideoAutoencoder
from train.autoencoder.sizes import target_size


def to_video(rgb: np.ndarray) -> torch.Tensor:
    """(T, H, W, 3) uint8 -> (1, 3, T, H, W) float32 in [-1, 1]."""
    return in_unit_range(torch.tensor(rgb).permute(3, 0, 1, 2)[None])


def gray_video(first: np.ndarray, num_frames: int, last: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """`num_frames` frames, (H, W, 3) float32 in [-1, 1]: the first one, gray ones, and by option the last one.

    Args:
        first: (H, W, 3) uint8.
        num_frames: 2 or more where there is a last one.
        last: likewise, of the same size.
    """
    gray = np.zeros(first.shape, np.float32)
    for number in range(num_frames):
        given = first if number == 0 else last if number == num_frames - 1 else None
        yield gray if given is None else given.astype(np.float32) / 127.5 - 1.0


def in_unit_range(part: torch.Tensor) -> torch.Tensor:
    """Levels 0 to 255 of uint8 as float32 in [-1, 1]; what is in this range already as it is."""
    return part.float().div_(127.5).sub_(1.0) if part.dtype == torch.uint8 else part


def video_parts(
    frames: Iterator[np.ndarray], num_frames: int, autoencoder: VideoAutoencoder
) -> Iterator[torch.Tensor]:
    """Frames (H, W, 3), uint8 or float32 in [-1, 1], as the parts (1, 3, T, H, W) that `encode_parts` takes."""
    step, done = autoencoder.part_frames or num_frames, 0
    size = 1 + step - autoencoder.temporal_stride if autoencoder.part_frames else num_frames
    while done < num_frames:
        size = min(size, num_frames - done)
        pixels: np.ndarray | None = None
        for number, rgb in enumerate(islice(frames, size)):
            pixels = np.empty((size, *rgb.shape), rgb.dtype) if pixels is None else pixels
            pixels[number] = rgb
        assert pixels is not None
        yield torch.from_numpy(pixels).permute(3, 0, 1, 2)[None]
        done, size = done + size, step


def covering_size(height: int, width: int, *, size: Size, multiple_px: int) -> Size:
    """What a picture is scaled to, before what is over `size` is cut off on both sides.

    A picture that `reelpack encode` scales to this shape becomes it, as there; its aspect ratio changes slightly.
    """
    enlarged = max(1, math.ceil(math.sqrt(math.prod(size) / (height * width))))
    if target_size(height * enlarged, width * enlarged, max_area_px=math.prod(size), multiple_px=multiple_px) == size:
        return size
    scale = max(size[0] / height, size[1] / width)
    return max(size[0], round(height * scale)), max(size[1], round(width * scale))


def covering_frames(
    reader: FrameReader, source: str, times: ClipTimes, indices: np.ndarray, *, size: Size, multiple_px: int
) -> Iterator[np.ndarray]:
    """Frames of a picture or a clip, (H, W, 3) uint8 of `size`: see `covering_size`.

    Raises:
        MediaError: the source is neither.
    """
    scaled = partial(covering_size, size=size, multiple_px=multiple_px)
    for rgb in reader.frames(source, times, indices, scaled):
        yield middle(rgb, size)


def middle(pixels: np.ndarray, size: Size) -> np.ndarray:
    """(H, W, …), the part of `size` in its middle."""
    top, left = ((have - want) // 2 for have, want in zip(pixels.shape, size, strict=False))
    return pixels[top : top + size[0], left : left + size[1]]


def encode_frames(autoencoder: VideoAutoencoder, frames: Iterator[np.ndarray], num_frames: int) -> torch.Tensor:
    """`1 + temporal_stride * k` frames, (H, W, 3) uint8, to (C, 1 + k, H', W') float32, as `reelpack encode` does."""
    [latent] = autoencoder.encode_parts(video_parts(frames, num_frames, autoencoder))
    return latent


def decode_latent(autoencoder: VideoAutoencoder, latent: np.ndarray | torch.Tensor) -> np.ndarray:
    """Normalized latent (C, T, H, W) -> (T, H, W, 3) uint8: what sampling ends with."""
    return to_rgb(autoencoder.decode(torch.as_tensor(latent).float()))


def to_rgb(video: torch.Tensor) -> np.ndarray:
    """(1, 3, T, H, W) in [-1, 1] -> (T, H, W, 3) uint8; what is beyond is clamped."""
    levels = (video[0].permute(1, 2, 3, 0).float() + 1.0) * 127.5
    return levels.round().clamp(0, 255).to(torch.uint8).cpu().numpy()
