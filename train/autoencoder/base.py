"""What the trainer knows of an autoencoder."""

from typing import Protocol

from torch import Tensor


class VideoAutoencoder(Protocol):
    """Videos to normalized latents and back. An image is a video of one frame.

    `1 + temporal_stride * k` frames become `1 + k` latent frames, of which the first depends on the first frame alone;
    an autoencoder of images has `temporal_stride` 1. Sides are multiples of `spatial_stride`.
    """

    channels: int
    temporal_stride: int
    spatial_stride: int
    name: str
    fingerprint: str
    """Names the weights, and all settings that change what they compute."""

    def encode(self, video: Tensor) -> Tensor:
        """(1, 3, T, H, W) float32 in [-1, 1] -> (C, T', H', W') float32 of about zero mean and unit deviation."""
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
