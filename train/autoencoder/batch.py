"""Videos of one shape are encoded together."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from itertools import chain

import numpy as np
import torch

from train.autoencoder.base import VideoAutoencoder
from train.autoencoder.pixels import video_parts

GPU_BATCH_PX = 2 << 20
"""Pixels of the videos that a GPU encodes together: 32 images of 256 x 256 px."""


def batch_px_of(device: torch.device) -> int:
    """0 on a CPU, where a batch takes as long as its videos one by one, and its rounding depends on their number."""
    return 0 if device.type == "cpu" else GPU_BATCH_PX


class Batcher:
    """Gathers short videos by shape, and encodes those of one shape together.

    A latent is that of its video alone to 1e-5 on a CPU, where `max_px` is 0 by default and it is equal.

    Args:
        autoencoder: what encodes.
        max_px: pixels of the videos that are encoded together, and most that are gathered of one shape.
        moments: see `VideoAutoencoder.encode_parts`.
    """

    def __init__(self, autoencoder: VideoAutoencoder, max_px: int, *, moments: bool = False) -> None:
        self._autoencoder, self._max_px, self._moments = autoencoder, max_px, moments
        self._waiting: dict[tuple[object, ...], list[tuple[np.ndarray, Future[torch.Tensor]]]] = defaultdict(list)

    def add(self, frames: Iterator[np.ndarray], num_frames: int) -> "Future[torch.Tensor]":
        """Take the frames of a video, (H, W, 3) uint8 or float32 in [-1, 1] each. Its latent (C, T', H', W') float32,
        or the OutOfMemoryError in its place, is there after `flush` at the latest."""
        latent: Future[torch.Tensor] = Future()
        first = next(frames)
        frames = chain([first], frames)
        if 2 * num_frames * first[..., 0].size > self._max_px:
            self._encode_one(frames, num_frames, latent)
            return latent
        rgb = np.stack(list(frames))
        together = self._waiting[key := (rgb.dtype, *rgb.shape)]
        together.append((rgb, latent))
        if (len(together) + 1) * rgb[..., 0].size > self._max_px:
            self._encode(self._waiting.pop(key))
        return latent

    def flush(self) -> None:
        """Encode what was gathered."""
        while self._waiting:
            self._encode(self._waiting.popitem()[1])

    def _encode(self, videos: "Sequence[tuple[np.ndarray, Future[torch.Tensor]]]") -> None:
        parts = [video_parts(iter(rgb), len(rgb), self._autoencoder) for rgb, _ in videos]
        together = (torch.cat(part) for part in zip(*parts, strict=True))
        try:
            latents = self._autoencoder.encode_parts(together, moments=self._moments)
        except torch.OutOfMemoryError:
            for rgb, latent in videos:
                self._encode_one(iter(rgb), len(rgb), latent)
            return
        for (_, latent), value in zip(videos, latents, strict=True):
            latent.set_result(value)

    def _encode_one(self, frames: Iterator[np.ndarray], num_frames: int, latent: "Future[torch.Tensor]") -> None:
        parts = video_parts(frames, num_frames, self._autoencoder)
        try:
            [value] = self._autoencoder.encode_parts(parts, moments=self._moments)
        except torch.OutOfMemoryError as error:
            latent.set_exception(error)
        else:
            latent.set_result(value)
