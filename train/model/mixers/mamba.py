"""Mamba-2 as a token mixer, in both directions (Dao & Gu 2024, §7.1; both directions: Zhu et al. 2024, Vision Mamba).

Departures: half of the features are read forward and half backward, so that two directions cost as much as one; states
and convolutions begin with each sample of a pack; in-context tokens are read before the patches.

Letters: N tokens of the sequence, G of a window layout, D width, E = expand · D inner features.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.model.flops import linear_flops
from train.model.mixers.base import TokenMixer
from train.model.mixers.fused_scan import check_package, fused_scan
from train.model.mixers.mamba_config import MambaConfig
from train.model.mixers.scan import selective_scan
from train.model.position import Rotation
from train.packing.segments import WindowLayout

NUM_DIRECTIONS = 2
STEP_SIZES = (1e-3, 0.1)
"""Least and most at the start."""
DECAY_RATES = (1.0, 16.0)
"""Least and most at the start."""


class Mamba(TokenMixer):
    """Projection, short convolution, selective scan, gated norm, projection."""

    def __init__(self, config: MambaConfig, *, width: int, num_heads: int) -> None:
        """`num_heads`: of each direction.

        Raises:
            ValueError: there is a GPU and no kernel for it (`scan`).
        """
        super().__init__()
        if config.scan == "fused":
            check_package()
        self.config, self.inner, self.num_heads = config, config.expand * width, num_heads
        self.scanned = self.inner // NUM_DIRECTIONS + 2 * config.state  # x, B and C of a direction
        self.project = nn.Linear(width, self.inner + NUM_DIRECTIONS * (self.scanned + self.num_heads), bias=False)
        self.conv = nn.Parameter(torch.empty(NUM_DIRECTIONS, config.taps, self.scanned))
        self.conv_bias = nn.Parameter(torch.empty(NUM_DIRECTIONS * self.scanned))
        self.log_rate = nn.Parameter(torch.empty(NUM_DIRECTIONS * self.num_heads))
        self.step_bias = nn.Parameter(torch.empty(NUM_DIRECTIONS * self.num_heads))
        self.skip = nn.Parameter(torch.empty(NUM_DIRECTIONS * self.num_heads))
        self.norm = nn.RMSNorm(self.inner, eps=1e-5)
        self.out = nn.Linear(self.inner, width, bias=False)
        self.initialize()

    def forward(self, x: Tensor, layouts: Sequence[WindowLayout], rotation: Rotation | None) -> Tensor:
        gate, *parts = self.project(x).split(
            [self.inner, *(self.scanned + self.num_heads for _ in range(NUM_DIRECTIONS))], dim=-1
        )
        outs = [
            layout.undo(self._scan(layout.apply(part), layout, direction))  # (N, E / 2)
            for direction, (part, layout) in enumerate(zip(parts, layouts, strict=True))
        ]
        y = torch.cat(outs, dim=-1)  # (N, E)
        return self.out(self.norm(y * F.silu(gate)).to(y.dtype))  # (N, D)

    def _scan(self, tokens: Tensor, layout: WindowLayout, direction: int) -> Tensor:
        """(G, x B C step) of one direction to (G, E / 2)."""
        config = self.config
        scanned, step = tokens.split([self.scanned, self.num_heads], dim=-1)
        bias, rate, step_bias, skip = (
            v.chunk(NUM_DIRECTIONS)[direction] for v in (self.conv_bias, self.log_rate, self.step_bias, self.skip)
        )
        scanned = F.silu(short_convolution(scanned, self.conv[direction], layout) + bias)
        x, b, c = scanned.split([self.scanned - 2 * config.state, config.state, config.state], dim=-1)
        x = x.unflatten(-1, (self.num_heads, -1))  # (G, H, P)
        step = F.softplus(step.float() + step_bias)  # (G, H)
        x_in = x * step[..., None].to(x.dtype)
        log_decay, segments = -step * rate.float().exp(), layout.segments  # (G, H)
        if config.scan == "fused" and x.is_cuda:
            y = fused_scan(x_in, log_decay, b, c, segments)
        else:
            y = selective_scan(x_in, log_decay, b, c, segments.segment_ids, config.chunk)
        return (y + skip[:, None].to(x.dtype) * x).flatten(1)

    def flops(self, layouts: Sequence[WindowLayout], num_tokens: int) -> int:
        """Of the projections and of the scan: pairs of a chunk, states in and out."""
        inner, state, chunk = self.inner // NUM_DIRECTIONS, self.config.state, self.config.chunk
        of_token = 2 * chunk * (state + inner) + 4 * state * inner
        return linear_flops(self, num_tokens) + of_token * sum(one.segments.num_tokens for one in layouts)

    @torch.no_grad()
    def initialize(self) -> None:
        """As Mamba-2's code: rates uniform, step sizes log-uniform through the inverse of softplus."""
        bound = 1 / math.sqrt(self.config.taps)
        nn.init.uniform_(self.conv, -bound, bound)
        nn.init.zeros_(self.conv_bias)
        self.log_rate.uniform_(*DECAY_RATES).log_()
        step = self.step_bias.uniform_(*map(math.log, STEP_SIZES)).exp()
        self.step_bias.copy_(step + (-torch.expm1(-step)).log())
        nn.init.ones_(self.skip)


def short_convolution(tokens: Tensor, weight: Tensor, layout: WindowLayout) -> Tensor:
    """Of each feature over the tokens before it, which are of its group.

    Args:
        tokens: (G, F).
        weight: (taps, F); the last tap is of the token itself.
        layout: its segments are the groups.

    Returns:
        (G, F).
    """
    segments = layout.segments
    place = torch.arange(segments.num_tokens, device=tokens.device)
    place = place - segments.gather(segments.cu_seqlens[:-1].long())  # (G,) within the group
    taps = len(weight)
    out = tokens * weight[-1]
    for back in range(1, min(taps, segments.num_tokens)):
        before = F.pad(tokens[:-back], (0, 0, back, 0)) * (place >= back)[:, None]
        out = out + before * weight[taps - 1 - back]
    return out
