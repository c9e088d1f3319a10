"""Representation alignment (REPA, Yu et al. 2024, §3.2): projected features point where an encoder's do."""

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


def alignment_loss(projected: Tensor, targets: Tensor) -> Tensor:
    """1 - cosine of each row with its target, (n, D_target) twice to (n,) float32; 0 where the target has a NaN."""
    known = targets.isfinite().all(-1)  # (n,)
    losses = 1 - F.cosine_similarity(projected.float(), targets.float().nan_to_num(0.0), dim=-1)  # (n,)
    return losses.where(known, 0.0)
