"""A causal video encoder and decoder, without the bottleneck between them.

Causal in time as in W.A.L.T (Gupta et al. 2023), section 3.1, and MAGVIT-v2 (Yu et al. 2023), section 3.2: the first
frame is encoded alone, an image is a video of one frame, and with a temporal stride of 4, `1 + 4k` frames become
`1 + k` latent frames. Departures, all for speed on a CPU: space-to-depth in place of strided convolutions, (2+1)-D
residual blocks with ReLU and without normalization (nothing to leak across time), no attention. Sizes and lengths are
free.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.autoencoder.network_config import PATCH, NetworkConfig


@dataclass(slots=True)
class Stream:
    """What the causal layers remember between the chunks of one clip; of a whole one, nothing: a layer that is called
    again gives the same."""

    is_whole: bool = False
    started: bool = False
    tails: dict[nn.Module, Tensor] = field(default_factory=dict)


def space_time_to_depth(x: Tensor, *, frames: int, pixels: int) -> Tensor:
    """(B, C, T, H, W) -> (B, frames * pixels^2 * C, T / frames, H / pixels, W / pixels), channels last in memory."""
    b, c, t, h, w = x.shape
    x = x.reshape(b, c, t // frames, frames, h // pixels, pixels, w // pixels, pixels)
    x = x.permute(0, 2, 4, 6, 3, 5, 7, 1)  # (B, T', H', W', frames, pixels, pixels, C)
    return x.flatten(4).permute(0, 4, 1, 2, 3)


def depth_to_space_time(x: Tensor, *, frames: int, pixels: int) -> Tensor:
    """(B, frames · pixels² · C, T, H, W) to (B, C, frames · T, pixels · H, pixels · W).

    The inverse of `space_time_to_depth`.
    """
    b, _, t, h, w = x.shape
    x = x.permute(0, 2, 3, 4, 1).reshape(b, t, h, w, frames, pixels, pixels, -1)
    x = x.permute(0, 1, 4, 2, 5, 3, 6, 7)  # (B, T, frames, H, pixels, W, pixels, C)
    return x.reshape(b, t * frames, h * pixels, w * pixels, -1).permute(0, 4, 1, 2, 3)


class FrameConv(nn.Conv3d):
    """Convolution within a frame, computed in two dimensions: on a CPU, three are slower, and with several videos they
    round differently. One of single pixels is a product of matrices."""

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel_size[1] == 1:
            return F.linear(x.movedim(1, -1), self.weight.flatten(1), self.bias).movedim(-1, 1)  # (B, C', T, H, W)
        frames = x.transpose(1, 2).flatten(0, 1)  # (B T, C, H, W)
        frames = F.conv2d(frames, self.weight[:, :, 0], self.bias, padding=self.kernel_size[1] // 2)
        return frames.unflatten(0, (len(x), -1)).transpose(1, 2)  # (B, C', T, H, W)


def frame_conv(in_channels: int, out_channels: int, kernel: int) -> FrameConv:
    conv = FrameConv(in_channels, out_channels, (1, kernel, kernel))
    nn.init.kaiming_normal_(conv.weight, nonlinearity="linear")
    nn.init.zeros_(conv.bias)
    return conv


class CausalTemporalConv(nn.Module):
    """Convolution over a frame and those before it, `frames` in all; before the first frame stand copies of it."""

    def __init__(self, in_channels: int, out_channels: int, frames: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, (frames, 1, 1))
        self.num_before = frames - 1
        nn.init.zeros_(self.conv.weight)  # the residual block begins as the identity
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        x = x.movedim(1, -1)  # (B, T, H, W, C), as it lies in memory: nothing is copied into another order
        before = stream.tails.get(self)
        if before is None:
            before = x[:, :1].expand(-1, self.num_before, -1, -1, -1)
        x = torch.cat([before, x], dim=1)
        if not stream.is_whole:
            stream.tails[self] = x[:, x.shape[1] - self.num_before :].clone()
        pixels = x.flatten(2, 3).permute(0, 3, 1, 2)  # (B, C, T, H W)
        out = F.conv2d(pixels, self.conv.weight[..., 0], self.conv.bias)  # (B, C', T, H W)
        return out.unflatten(3, x.shape[2:4])


class Block(nn.Module):
    """(2+1)-D residual block: 3 x 3 within the frame, then `frames` causal in time."""

    def __init__(self, channels: int, frames: int = 3) -> None:
        super().__init__()
        self.spatial = frame_conv(channels, channels, 3)
        self.temporal = CausalTemporalConv(channels, channels, frames)

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        hidden = F.relu(self.spatial(F.relu(x)), inplace=True)
        return self.temporal(hidden, stream).add_(x)


def _block_of(config: NetworkConfig) -> Callable[[int], Block]:
    """The residual block of a number of channels."""
    return partial(Block, frames=3 if config.over_time else 1)


class Down(nn.Module):
    """Reduces time by `frames` and space by `pixels`. With two frames, a copy of the first one goes before it, so that
    it forms a pair alone."""

    def __init__(self, in_channels: int, out_channels: int, *, frames: int, pixels: int) -> None:
        super().__init__()
        self.frames, self.pixels = frames, pixels
        self.proj = frame_conv(frames * pixels**2 * in_channels, out_channels, 1)

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        if self.frames > 1 and not stream.started:
            x = torch.cat([x[:, :, :1], x], dim=2)
        return self.proj(space_time_to_depth(x, frames=self.frames, pixels=self.pixels))


class Up(nn.Module):
    """Inverse of `Down`; drops the copy before the first frame."""

    def __init__(self, in_channels: int, out_channels: int, *, frames: int, pixels: int) -> None:
        super().__init__()
        self.frames, self.pixels = frames, pixels
        self.proj = frame_conv(in_channels, frames * pixels**2 * out_channels, 1)

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        x = depth_to_space_time(self.proj(x), frames=self.frames, pixels=self.pixels)
        return x if self.frames == 1 or stream.started else x[:, :, 1:]


class Encoder(nn.Module):
    """Videos to what a bottleneck reads: `out_channels` per latent position."""

    def __init__(self, config: NetworkConfig, out_channels: int) -> None:
        super().__init__()
        widths, (num_blocks, _), block = config.level_widths, config.level_blocks, _block_of(config)
        self.stem = frame_conv(3 * PATCH**2, widths[0], 3)
        layers: list[nn.Module] = [block(widths[0]) for _ in range(num_blocks[0])]
        for level, (frames, pixels) in enumerate(config.reductions, 1):
            layers.append(Down(widths[level - 1], widths[level], frames=frames, pixels=pixels))
            layers += [block(widths[level]) for _ in range(num_blocks[level])]
        self.layers = nn.ModuleList(layers)
        self.head = frame_conv(widths[-1], out_channels, 1)

    def forward(self, x: Tensor, stream: Stream) -> Tensor:
        """(B, 3, T, H, W) in [-1, 1] to (B, out_channels, T', H', W') float32."""
        x = space_time_to_depth(x, frames=1, pixels=PATCH)  # (B, 48, T, H/4, W/4)
        x = self.stem(x)  # (B, widths[0], T, H/4, W/4)
        for layer in self.layers:
            x = layer(x, stream)  # ... (B, widths[-1], T', H', W')
        return self.head(x).float()  # (B, out_channels, T', H', W')


class Decoder(nn.Module):
    """Latents to videos."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        widths, (_, num_blocks), block = config.level_widths, config.level_blocks, _block_of(config)
        self.stem = frame_conv(config.num_channels, widths[-1], 3)
        layers: list[nn.Module] = [block(widths[-1]) for _ in range(num_blocks[-1])]
        for level, (frames, pixels) in reversed(list(enumerate(config.reductions))):
            layers.append(Up(widths[level + 1], widths[level], frames=frames, pixels=pixels))
            layers += [block(widths[level]) for _ in range(num_blocks[level])]
        self.layers = nn.ModuleList(layers)
        self.head = frame_conv(widths[0], 3 * PATCH**2, 3)

    def forward(self, z: Tensor, stream: Stream) -> Tensor:
        """(B, C, T', H', W') to (B, 3, T, H, W) float32, not clamped."""
        x = self.stem(z)  # (B, widths[-1], T', H', W')
        for layer in self.layers:
            x = layer(x, stream)  # ... (B, widths[0], T, H/4, W/4)
        x = self.head(x).float()  # (B, 48, T, H/4, W/4)
        return depth_to_space_time(x, frames=1, pixels=PATCH)  # (B, 3, T, H, W)
