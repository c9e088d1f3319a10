"""What steers a sample: its timestep, its caption, its frame rate. One row per segment, gathered per token.

A pack is many samples, so nothing here is shared over a pack: the modulation is computed on S rows (cheap) and only
its result is spread over L tokens.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from train.segments import PackedBatch, Segments

FREQUENCY_WIDTH = 256


class ScalarEmbedder(nn.Module):
    """A number per segment to a vector: sinusoids, then an MLP (DiT's timestep embedder)."""

    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.mlp = nn.Sequential(nn.Linear(FREQUENCY_WIDTH, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, values: Tensor) -> Tensor:
        half = FREQUENCY_WIDTH // 2
        frequencies = torch.exp(-math.log(10_000.0) * torch.arange(half, device=values.device) / half)
        angles = self.scale * values.float()[:, None] * frequencies  # (S, 128)
        return self.mlp(torch.cat([angles.cos(), angles.sin()], dim=-1))  # (S, D)


class CaptionEmbedder(nn.Module):
    """Token states of the caption to the model's width; a learned token stands for "no caption" (CFG dropout)."""

    def __init__(self, text_dim: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(text_dim)
        self.mlp = nn.Sequential(nn.Linear(text_dim, width), nn.GELU(approximate="tanh"), nn.Linear(width, width))
        self.pool = nn.Linear(width, width)
        self.null = nn.Parameter(torch.empty(width))

    def forward(self, text: Tensor, segments: Segments, has_caption: Tensor) -> tuple[Tensor, Tensor]:
        """Caption tokens (M, D_text) to keys of the cross-attention (M, D) and one row per segment (S, D)."""
        tokens = self.mlp(self.norm(text))  # (M, D)
        given = segments.gather(has_caption)[:, None]  # (M, 1)
        tokens = torch.where(given, tokens, self.null.to(tokens.dtype))  # (M, D)
        return tokens, self.pool(segments.mean(tokens))  # (M, D), (S, D)


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """What a block needs to know beside its tokens."""

    rows: Tensor  # (R, D): timestep + pooled caption + rate
    row_ids: Tensor  # (L,): the row of each token; given tokens point to rows of their own (t = 0)
    text: Tensor  # (M, D)
    text_segments: Segments  # over M


class Conditioner(nn.Module):
    """All conditions of a pack."""

    def __init__(self, text_dim: int, width: int, *, fps: bool) -> None:
        super().__init__()
        self.timestep = ScalarEmbedder(width, scale=1000.0)
        self.caption = CaptionEmbedder(text_dim, width)
        self.fps = ScalarEmbedder(width, scale=1.0) if fps else None

    def forward(self, timesteps: Tensor, batch: PackedBatch) -> Conditions:
        text, pooled = self.caption(batch.text, batch.text_segments, batch.has_caption)
        if self.fps is not None:
            pooled = pooled + self.fps(batch.fps)  # (S, D)
        given = len(batch.row_segments) - len(timesteps)  # rows of given tokens, at t = 0
        rows = self.timestep(torch.cat([timesteps, timesteps.new_zeros(given)]))  # (R, D)
        rows = rows + pooled.index_select(0, batch.row_segments)  # (R, D)
        return Conditions(rows=rows, row_ids=batch.row_ids, text=text, text_segments=batch.text_segments)


class Modulation(nn.Module):
    """adaLN: `num_chunks` vectors per token from the rows of its segment (DiT §3.2)."""

    def __init__(self, width: int, num_chunks: int) -> None:
        super().__init__()
        self.num_chunks = num_chunks
        self.linear = nn.Linear(width, num_chunks * width)

    def forward(self, conditions: Conditions) -> tuple[Tensor, ...]:
        rows = self.linear(nn.functional.silu(conditions.rows))  # (R, num_chunks * D)
        return rows.index_select(0, conditions.row_ids).chunk(self.num_chunks, dim=-1)  # num_chunks × (L, D)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + scale) + shift
