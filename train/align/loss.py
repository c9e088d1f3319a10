"""Representation alignment (REPA, Yu et al. 2024, §3.2): projected features point where an encoder's do."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Projector(nn.Module):
    """Features of the model to the encoder's width: REPA's three-layer MLP."""

    def __init__(self, width: int, target_dim: int, hidden: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, target_dim)
        )

    def forward(self, features: Tensor) -> Tensor:
        """(n, D) to (n, D_target)."""
        return self.mlp(features)

    def activation_bytes(self, num_rows: int, dtype: torch.dtype) -> int:
        """What rows keep for the backward pass, their loss too: two hidden layers before and after the activation, the
        output, and in float32 outputs and targets."""
        hidden, dim = (self.mlp[i].out_features for i in (0, -1))
        return num_rows * ((4 * hidden + dim) * dtype.itemsize + 2 * dim * 4)


def alignment_loss(projected: Tensor, targets: Tensor) -> Tensor:
    """1 - cosine of each row with its target, (n, D_target) twice to (n,) float32; 0 where the target has a NaN."""
    known = targets.isfinite().all(-1)  # (n,)
    losses = 1 - F.cosine_similarity(projected.float(), targets.float().nan_to_num(0.0), dim=-1)  # (n,)
    return losses.where(known, 0.0)
