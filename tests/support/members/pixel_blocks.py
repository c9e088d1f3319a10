"""An autoencoder that the project does not have: each latent position is the mean color of 8 x 8 pixels."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class PixelBlocksConfig(BaseModel):
    """Settings and class in one file: the class loads torch when it is used."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["pixel_blocks"] = "pixel_blocks"

    def build(self, device: "torch.device | None" = None) -> "PixelBlocks":
        return PixelBlocks(device)


class PixelBlocks:
    channels, temporal_stride, spatial_stride = 3, 1, 8
    name = "pixel_blocks"
    fingerprint = "pixel_blocks-1"
    codebook = None  # latents are continuous
    has_posterior = False
    part_frames: int | None = 4
    is_causal = True

    def __init__(self, device: "torch.device | None") -> None:
        import torch

        self.device = device or torch.device("cpu")

    def encode(self, video: "Tensor") -> "Tensor":
        from torch.nn import functional as F

        return F.avg_pool2d(video[0].transpose(0, 1), self.spatial_stride).transpose(0, 1)

    def encode_parts(self, parts: Iterable["Tensor"], *, moments: bool = False) -> "Tensor":
        import torch

        from train.autoencoder.pixels import in_unit_range

        latents = [torch.stack([self.encode(video[None]) for video in in_unit_range(part)]) for part in parts]
        return torch.cat(latents, dim=2)

    def decode(self, latent: "Tensor") -> "Tensor":
        from torch.nn import functional as F

        return (
            F.interpolate(latent.transpose(0, 1), scale_factor=self.spatial_stride).transpose(0, 1)[None].clamp(-1, 1)
        )
