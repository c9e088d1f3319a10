"""TransNet V2, the network: Souček & Lokoč 2020, arXiv:2008.04838, §3.

Three stacks of two dilated blocks each see 100 frames of 48 × 27. A block has four branches: a spatial 3 × 3
convolution, then a temporal one over three frames that are 1, 2, 4 or 8 apart. The similarities of each frame to those
around it, by learned features and by color histograms, join the features before the last layers.
"""

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from curate.encoders.transnetv2_checkpoint import DILATIONS

FILTERS = (16, 32, 64)
"""Of a branch, in each stack."""
REACH = 50
"""Frames on either side that a frame is compared with."""
NUM_FRAMES, HEIGHT, WIDTH = 100, 27, 48
BITS = 3
"""Of each color, in the histograms."""


class Block(nn.Module):
    """The batch normalization is folded into the temporal convolutions."""

    def __init__(self, num_in: int, num_filters: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(num_in, 2 * num_filters * len(DILATIONS), 3, padding=1, bias=False)
        self.temporal = nn.ModuleList(
            nn.Conv2d(2 * num_filters, num_filters, (3, 1), padding=(step, 0), dilation=(step, 1))
            for step in DILATIONS
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`(T, C, H, W)` to `(T, 4 * num_filters, H, W)`."""
        num_frames, _, height, width = x.shape
        branches = self.spatial(x).permute(1, 0, 2, 3).flatten(2)[None].chunk(len(DILATIONS), dim=1)
        y = torch.cat([layer(branch) for layer, branch in zip(self.temporal, branches, strict=True)], dim=1)
        return y.reshape(-1, num_frames, height, width).transpose(0, 1)


class TransNetV2(nn.Module):
    """Two logits per frame. The first marks one frame of each transition, the second all frames of it; at a hard cut
    both mark the frame before it."""

    def __init__(self) -> None:
        super().__init__()
        inputs = (3, *(len(DILATIONS) * width for width in FILTERS))
        self.stacks = nn.ModuleList(
            nn.ModuleList([Block(num_in, width), Block(num_out, width)])
            for num_in, num_out, width in zip(inputs, inputs[1:], FILTERS, strict=False)
        )
        self.projection = nn.Linear(sum(inputs[1:]), 128)
        self.similarity = nn.Linear(2 * REACH + 1, 128)
        self.histogram = nn.Linear(2 * REACH + 1, 128)
        self.hidden = nn.Linear(inputs[-1] * (HEIGHT // 8) * (WIDTH // 8) + 256, 1024)
        self.heads = nn.Linear(1024, 2)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """`(T, 27, 48, 3)` uint8 RGB to `(T, 2)`."""
        x = frames.permute(0, 3, 1, 2).to(self.heads.weight.dtype) / 255  # channels last in memory
        means = []
        for first, second in self.stacks:
            shortcut = functional.relu(first(x))
            x = functional.avg_pool2d(functional.relu(second(shortcut)) + shortcut, 2)
            means.append(x.mean(dim=(2, 3)))
        learned = functional.normalize(self.projection(torch.cat(means, dim=1)), dim=1)
        colors = functional.relu(self.histogram(_similarities(_histograms(frames).to(x.dtype))))
        features = functional.relu(self.similarity(_similarities(learned)))
        joined = torch.cat([colors, features, x.permute(0, 2, 3, 1).flatten(1)], dim=1)
        return torch.as_tensor(self.heads(functional.relu(self.hidden(joined))))


def load(path: Path, device: torch.device, dtype: torch.dtype) -> TransNetV2:
    """The network with the weights at `path`, see `curate.encoders.weights.resolve`."""
    from safetensors.torch import load_file

    network = TransNetV2()
    network.load_state_dict(load_file(path))
    return network.eval().to(device=device, dtype=dtype, memory_format=torch.channels_last)


def _similarities(vectors: torch.Tensor) -> torch.Tensor:
    """`(T, D)` to `(T, 101)`: products of each frame's vector with those of the frames up to 50 away, 0 outside."""
    padded = functional.pad(vectors, (0, 0, REACH, REACH))
    return torch.einsum("td,tdk->tk", vectors, padded.unfold(0, 2 * REACH + 1, 1))


def _histograms(frames: torch.Tensor) -> torch.Tensor:
    """`(T, H, W, 3)` uint8 to `(T, 512)` of unit length."""
    red, green, blue = (frames.long() >> (8 - BITS)).unbind(dim=-1)
    bins = ((red << (2 * BITS)) + (green << BITS) + blue).flatten(1)
    counts = torch.zeros(len(frames), 1 << (3 * BITS), device=frames.device)
    return functional.normalize(counts.scatter_add_(1, bins, torch.ones_like(bins, dtype=counts.dtype)), dim=1)
