"""What the trainer knows of an autoencoder."""

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor


class Codebook(Protocol):
    """Latents that take one of finitely many values at each position."""

    num_codes: int

    def ids(self, latent: Tensor) -> Tensor:
        """(C, T, H, W), normalized, to the numbers of its codes, (T, H, W) int64 from 0 to `num_codes` - 1."""
        ...

    def vectors(self, ids: Tensor) -> Tensor:
        """(T, H, W) int64 to the latent (C, T, H, W), normalized: the inverse of `ids`."""
        ...

    def tables(self) -> tuple[Tensor, ...]:
        """The vectors of all codes, normalized, as `bottlenecks.base.look_up` takes them; on the CPU."""
        ...


class VideoAutoencoder(Protocol):
    """Videos to normalized latents and back. An image is a video of one frame.

    `1 + temporal_stride * k` frames become `1 + k` latent frames; an autoencoder of images has `temporal_stride` 1.
    Sides are multiples of `spatial_stride`.
    """

    channels: int
    temporal_stride: int
    spatial_stride: int
    device: torch.device
    name: str
    fingerprint: str
    """Names the weights, and all settings that change what they compute."""
    codebook: Codebook | None
    """None where latents are continuous."""
    part_frames: int | None
    """Frames of a part of `encode_parts`; the first one has `temporal_stride - 1` less. None: a video is encoded as a
    whole."""

    @property
    def has_posterior(self) -> bool:
        """A latent is the mean of a Gaussian, whose variance `encode_parts` gives by option."""
        ...

    @property
    def is_causal(self) -> bool:
        """No latent frame depends on later frames: an image is coded as the first frame of a video is, and the first
        latent frames of a video are those of its beginning alone."""
        ...

    def encode(self, video: Tensor) -> Tensor:
        """(1, 3, T, H, W) float32 in [-1, 1] -> (C, T', H', W') float32 of about zero mean and unit deviation."""
        ...

    def encode_parts(self, parts: Iterable[Tensor], *, moments: bool = False) -> Tensor:
        """What `encode` gives for each of B videos of one shape, (B, C, T', H', W') float32.

        `parts` are consecutive, (B, 3, T, H, W) each: float32 in [-1, 1], or uint8 levels, of a quarter of the size.
        Only one of them is in memory at a time where `part_frames` says how long they are to be. The latent of a video
        depends on the others of the batch by rounding at most.

        `moments`, where `has_posterior`: the mean, then the logarithm of the variance, (B, 2 C, T', H', W').
        """
        ...

    def decode(self, latent: Tensor) -> Tensor:
        """(C, T', H', W') float32, normalized -> (1, 3, T, H, W) float32 in [-1, 1]."""
        ...


def usable_frames(num_frames: int, temporal_stride: int) -> int:
    """The largest `1 + temporal_stride * k` that is not above `num_frames`."""
    return 1 + temporal_stride * ((num_frames - 1) // temporal_stride)


def latent_shape(autoencoder: VideoAutoencoder, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
    """(C, T', H', W') of a video of `1 + temporal_stride * k` frames."""
    stride = autoencoder.spatial_stride
    num_latent_frames = 1 + (num_frames - 1) // autoencoder.temporal_stride
    return autoencoder.channels, num_latent_frames, height // stride, width // stride
