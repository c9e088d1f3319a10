"""What a network sees in a video: the features of FVD, and of distances that are none."""

from typing import Literal, Protocol, TypeAlias

from torch import Tensor

DistanceName: TypeAlias = Literal["fvd", "fid", "fd"]


class VideoFeatures(Protocol):
    """A frozen network, on a device."""

    name: str
    """Of the network, for the figures that are made with it: `<distance>_<name>`."""
    fingerprint: str
    """Of the function videos → features: its weights, and settings that change a value."""
    distance: DistanceName
    """What their Fréchet distance is called: FVD and FID are those of the published networks."""
    num_frames: int
    """Of a video that it takes."""
    is_spread: bool
    """Whether the frames are taken evenly from the whole video, a few of which may come twice; else its first ones."""

    def __call__(self, videos: Tensor) -> Tensor:
        """(N, T, H, W, 3) uint8 of `num_frames` frames to (N, D) float32, on the CPU."""
        ...
