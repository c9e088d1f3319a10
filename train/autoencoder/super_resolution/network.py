"""Decoded videos at twice the size, or four times.

The last stage of a cascade without diffusion: where Video LDM (Blattmann et al. 2023, section 3.4) and Imagen Video
(Ho et al. 2022, section 2.3) draw more pixels by a further model, this network computes them. It is trained on what an
autoencoder makes of small videos, so that it removes the autoencoder's errors as well. As in ESPCN (Shi et al. 2016)
all layers work at the small size. Frames see earlier ones only, so that videos of any length are enlarged in chunks.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.autoencoder.causal_net import Block, Stream, depth_to_space_time, frame_conv, space_time_to_depth
from train.autoencoder.super_resolution.config import SuperResolutionConfig


class SuperResolution(nn.Module):
    """(B, 3, T, H, W) in [-1, 1] to (B, 3, T, factor · H, factor · W), not clamped; H and W multiples of `reduction`.
    It begins as bilinear interpolation."""

    def __init__(self, config: SuperResolutionConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = frame_conv(3 * config.reduction**2, config.width, 3)
        self.layers = nn.ModuleList(Block(config.width) for _ in range(config.num_blocks))
        self.head = frame_conv(config.width, 3 * (config.reduction * config.factor) ** 2, 3)
        nn.init.zeros_(self.head.weight)
        self.to(memory_format=torch.channels_last_3d)

    def forward(self, video: Tensor, stream: Stream | None = None) -> Tensor:
        """`stream`: of a video in chunks, what is known of those before."""
        stream = stream or Stream(is_whole=True)
        x = self.stem(space_time_to_depth(video, frames=1, pixels=self.config.reduction))  # (B, D, T, H/r, W/r)
        for layer in self.layers:
            x = layer(x, stream)
        stream.started = True
        details = self.head(x).float()  # (B, 3 (r f)², T, H/r, W/r)
        details = depth_to_space_time(details, frames=1, pixels=self.config.reduction * self.config.factor)
        return interpolated(video, self.config.factor) + details


def interpolated(video: Tensor, factor: int) -> Tensor:
    """Frames of (B, C, T, H, W), bilinearly."""
    frames = video.transpose(1, 2).flatten(0, 1).float()
    larger = F.interpolate(frames, scale_factor=factor, mode="bilinear", align_corners=False)
    return larger.unflatten(0, (len(video), -1)).transpose(1, 2)


def reduced(video: Tensor, factor: int) -> Tensor:
    """Frames of (B, C, T, H, W), by means over factor x factor pixels, as `encode` makes smaller frames."""
    return F.avg_pool3d(video, (1, factor, factor))
