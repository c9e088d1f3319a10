"""Frames to what autoencoders take, and what they give to frames."""

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch

from curate.media.decode import clip_frames, clip_times
from train.autoencoder.base import VideoAutoencoder, usable_frames


def to_video(rgb: np.ndarray) -> torch.Tensor:
    """(T, H, W, 3) uint8 -> (1, 3, T, H, W) float32 in [-1, 1]."""
    return in_unit_range(torch.tensor(rgb).permute(3, 0, 1, 2)[None])


def in_unit_range(part: torch.Tensor) -> torch.Tensor:
    """Levels 0 to 255 of uint8 as float32 in [-1, 1]; what is in this range already as it is."""
    return part.float().div_(127.5).sub_(1.0) if part.dtype == torch.uint8 else part


def video_parts(
    frames: Iterator[np.ndarray], num_frames: int, autoencoder: VideoAutoencoder
) -> Iterator[torch.Tensor]:
    """Frames (H, W, 3) uint8 as the parts (1, 3, T, H, W) uint8 that `encode_parts` takes."""
    step, done = autoencoder.part_frames or num_frames, 0
    size = 1 + step - autoencoder.temporal_stride if autoencoder.part_frames else num_frames
    while done < num_frames:
        size = min(size, num_frames - done)
        pixels: np.ndarray | None = None
        for number, rgb in enumerate(islice(frames, size)):
            pixels = np.empty((size, *rgb.shape), np.uint8) if pixels is None else pixels
            pixels[number] = rgb
        assert pixels is not None
        yield torch.from_numpy(pixels).permute(3, 0, 1, 2)[None]
        done, size = done + size, step


def encode_start(
    autoencoder: VideoAutoencoder, source: str | bytes, *, size: tuple[int, int], fps: float, max_latent_frames: int
) -> torch.Tensor:
    """What a sampled video begins with, from a picture, or from the last frames of a clip that is to go on.

    Args:
        autoencoder: of the run.
        source: local path, or bytes, of the picture or the clip.
        size: height and width in px; what is left over of another shape is cut off on both sides.
        fps: rate of the video.
        max_latent_frames: take as many frames of the clip as give so many of the latent.

    Returns:
        (C, T, H, W) float32, normalized.

    Raises:
        MediaError: the source is neither.
    """
    times = clip_times(source)
    indices = times.at(None if len(times.pts) == 1 else fps or None)
    most = 1 + autoencoder.temporal_stride * (max_latent_frames - 1)
    indices = indices[-usable_frames(min(len(indices), most), autoencoder.temporal_stride) :]
    frames = clip_frames(source, times, indices)
    return autoencoder.encode(torch.cat([_covering(to_video(rgb[None]), size) for rgb in frames], dim=2))


def _covering(video: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(1, C, T, H, W) cut to the shape of `size` around its middle, and scaled to it."""
    height, width = video.shape[-2:]
    scale = min(height / size[0], width / size[1])
    rows, columns = (max(1, round(side * scale)) for side in size)
    top, left = (height - rows) // 2, (width - columns) // 2
    frames = video[0, :, :, top : top + rows, left : left + columns].transpose(0, 1)  # (T, C, rows, columns)
    scaled = torch.nn.functional.interpolate(frames, size=size, mode="bilinear", antialias=True)
    return scaled.transpose(0, 1)[None]


def decode_latent(autoencoder: VideoAutoencoder, latent: np.ndarray | torch.Tensor) -> np.ndarray:
    """Normalized latent (C, T, H, W) -> (T, H, W, 3) uint8: what sampling ends with."""
    video = autoencoder.decode(torch.as_tensor(latent).float())
    return ((video[0].permute(1, 2, 3, 0) + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()
