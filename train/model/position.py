"""Where a token is: three axes (frame, row, column), restarted in every segment.

`RotaryEmbedding` turns queries and keys (RoFormer, Su et al. 2021), one share of the head's width per axis as in the
video models of 2024 on. `sincos_embedding` adds a factorised table to the tokens, DiT's (Peebles & Xie 2023) with a
time axis. Neither holds parameters nor a largest size.
"""

import torch
from torch import Tensor, nn

NUM_AXES = 3


class RotaryEmbedding(nn.Module):
    """Axial 3-D RoPE: rows and columns turn a third of the head's pairs each, frames the rest."""

    def __init__(self, head_dim: int, base: float = 10_000.0) -> None:
        super().__init__()
        if head_dim % 2 or head_dim < 2 * NUM_AXES:
            raise ValueError(f"got head width {head_dim}; expected an even number of at least {2 * NUM_AXES}")
        pairs = head_dim // 2
        shares = (pairs - 2 * (pairs // NUM_AXES), pairs // NUM_AXES, pairs // NUM_AXES)
        frequencies = torch.cat([base ** (-torch.arange(n) / n) for n in shares])  # (D_head / 2,)
        axes = torch.repeat_interleave(torch.arange(NUM_AXES), torch.tensor(shares))
        self.register_buffer("frequencies", frequencies.float(), persistent=False)
        self.register_buffer("axes", axes, persistent=False)

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """(L, 3) float positions to cosines and sines, each (L, 1, D_head / 2) float32."""
        angles = positions.float()[:, self.axes] * self.frequencies  # (L, D_head / 2)
        return angles.cos()[:, None], angles.sin()[:, None]


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Turn each pair (x[i], x[i + D_head / 2]) of (L, H, D_head) by its angle, in float32."""
    cos, sin = rotation
    a, b = x.float().chunk(2, dim=-1)  # 2 × (L, H, D_head / 2)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x.dtype)


def sincos_embedding(positions: Tensor, width: int, base: float = 10_000.0) -> Tensor:
    """(L, 3) positions to (L, width) float32: a third of the width per axis, sines then cosines; zeros fill up."""
    n = width // (2 * NUM_AXES)
    frequencies = base ** (-torch.arange(n, device=positions.device) / n)
    angles = positions.float()[:, :, None] * frequencies  # (L, 3, n)
    table = torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(1)  # (L, 6 n)
    return nn.functional.pad(table, (0, width - table.shape[1]))


def frame_seconds(positions: Tensor, fps: Tensor, reference_fps: float) -> Tensor:
    """Positions with frames measured in real time, in units of 1 / `reference_fps` s.

    Args:
        positions: (L, 3).
        fps: (L,) rate of each token's clip; 0 (an image) leaves frame 0 where it is.
    """
    rate = torch.where(fps > 0, reference_fps / fps.clamp(min=1e-6), 1.0)
    return torch.cat([positions[:, :1] * rate[:, None], positions[:, 1:]], dim=1)
