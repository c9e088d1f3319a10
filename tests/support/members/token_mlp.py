"""The denoiser of `token_mlp_config.py`."""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tests.support.members.token_mlp_config import TokenMLPConfig
from train.model.base import Denoiser, Losses, State
from train.packing.batch import PackedBatch
from train.packing.segments import Segments


class TokenBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.own, self.mean = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor, segments: Segments) -> Tensor:
        """(L, D) to (L, D)."""
        mean = segments.sum(x) / segments.sum(torch.ones_like(x[:, :1]))  # (S, D)
        return x + torch.tanh(self.own(x) + segments.gather(self.mean(mean)))


class TokenMLP(Denoiser):
    def __init__(self, config: TokenMLPConfig, *, channels: int, text_dim: int, num_outputs: int = 1) -> None:
        super().__init__()
        self.config: Any = config
        self.channels, self.text_dim, self.num_outputs = channels, text_dim, num_outputs
        patch_dim = channels * math.prod(config.patch)
        self.embed = nn.Linear(patch_dim + 1, config.width)
        self.blocks = nn.ModuleList(TokenBlock(config.width) for _ in range(config.depth))
        self.final = nn.Linear(config.width, num_outputs * patch_dim)

    def forward(self, x: Tensor, timesteps: Tensor, batch: PackedBatch, features_of: int | None = None) -> Any:
        times = batch.segments.gather(timesteps)[:, None] * batch.loss_mask[:, None]  # (L, 1)
        x, features = self.embed(torch.cat([x, times.to(x.dtype)], 1)), None  # (L, D)
        for number, block in enumerate(self.blocks):
            x = block(x, batch.segments)
            features = x if number == features_of else features
        out = self.final(x)  # (L, num_outputs · P)
        return out if features is None else (out, features)

    def flops(self, batch: PackedBatch) -> int:
        ends = self.embed.weight.numel() + self.final.weight.numel()
        square = self.config.depth * self.config.width**2
        return 2 * (batch.segments.num_tokens * (ends + square) + batch.segments.num_segments * square)

    def activation_bytes(self, num_tokens: int, dtype: torch.dtype, losses: Losses, checkpoint_every: int) -> int:
        kept = 1 if checkpoint_every else 2
        return num_tokens * self.config.depth * kept * self.config.width * dtype.itemsize

    def workspace_bytes(self, num_tokens: int, dtype: torch.dtype) -> int:
        return num_tokens * self.config.width * dtype.itemsize

    def adapted(self, source: Any, state: State, tubelet: Literal["central", "uniform"]) -> State:
        return state

    def silence_additions(self, source: Any) -> None:
        """There are none."""
