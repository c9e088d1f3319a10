"""What a network sees in a video: the features of FVD."""

from typing import Protocol

from torch import Tensor


class VideoFeatures(Protocol):
    """A frozen network, on a device."""

    name: str
    """Of the network, for the figures that are made with it: `fvd_<name>`."""
    num_frames: int
    """Of a video that it takes."""

    def __call__(self, videos: Tensor) -> Tensor:
        """(N, T, H, W, 3) uint8 of `num_frames` frames to (N, D) float32, on the CPU."""
        ...
