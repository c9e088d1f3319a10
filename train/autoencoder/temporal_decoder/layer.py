"""The layer that lets a decoder of images look at earlier frames."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.autoencoder.causal_net import CausalTemporalConv, Stream, frame_conv

EPSILON = 1e-6


class TemporalLayer(nn.Module):
    """A residual branch over a frame and the two before it, which begins as zero: what goes in comes out.

    After the temporal layers of Video LDM's decoder (Blattmann et al. 2023, section 3.1.1), with two departures: it
    is causal, so that a clip of any length is decoded in chunks, and an image is the first frame of a video; and its
    norm is of each position, so that nothing leaks across time or tiles.
    """

    NUM_BEFORE = 2
    """Frames that it looks back."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // 2)
        self.gain = nn.Parameter(torch.ones(channels))
        self.spatial = frame_conv(channels, hidden, 3)
        self.temporal = CausalTemporalConv(hidden, channels, 1 + self.NUM_BEFORE)
        self.to(memory_format=torch.channels_last_3d)

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        """(B, C, T, H, W) of any type to the same; computed in that of the weights, or of autocast."""
        h = x.to(self.gain.dtype)
        h = h * (h.square().mean(dim=1, keepdim=True) + EPSILON).rsqrt() * self.gain.view(-1, 1, 1, 1)
        h = self.spatial(F.silu(h))  # (B, C / 2, T, H, W)
        return x + self.temporal(F.silu(h), stream).to(x.dtype)
