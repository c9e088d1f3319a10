"""Rectified flow (Liu et al. 2023; Lipman et al. 2023) with the timesteps of Stable Diffusion 3
(Esser et al. 2024, §3.1 and §5.3.2).

Convention: x_t = (1 - t) x_0 + t ε. t = 0 is data, t = 1 is noise. The model predicts the velocity
v = dx_t/dt = ε - x_0, so x_0 = x_t - t v and a sampler integrates from t = 1 down to 0.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from train.objective.base import Estimate, NoiseLevel
from train.objective.flow_config import FlowConfig
from train.objective.reduction import ReducedObjective
from train.packing.batch import PackedBatch


class RectifiedFlow(ReducedObjective):
    """Draws timesteps, makes noisy tokens, compares velocities."""

    def __init__(self, config: FlowConfig) -> None:
        super().__init__(config.reduction)
        self.config = config

    def draw_timestep(self, generator: torch.Generator, num_tokens: int) -> float:
        """One training timestep in (0, 1) for a sample whose whole grid has `num_tokens`."""
        if self.config.timesteps == "logit_normal":
            normal = float(torch.randn((), generator=generator, dtype=torch.float64))
            t = 1 / (1 + math.exp(-(self.config.logit_mean + self.config.logit_std * normal)))
        else:
            t = float(torch.rand((), generator=generator, dtype=torch.float64))
            if self.config.timesteps == "mode":
                t = 1 - t - self.config.mode_scale * (math.cos(math.pi / 2 * t) ** 2 - 1 + t)
                t = min(1.0, max(0.0, t))  # what rounding adds at the ends
        return self.shift(t, num_tokens)

    def shift(self, t: float, num_tokens: int) -> float:
        """t' = s t / (1 + (s - 1) t), s = shift · sqrt(n / base): more tokens need more noise for the same loss of
        signal."""
        s, base = self.config.shift, self.config.shift_base_tokens
        if base is not None:
            s *= math.sqrt(num_tokens / base)
        return t if s == 1 else s * t / (1 + (s - 1) * t)

    def token_losses(self, model: nn.Module, batch: PackedBatch) -> Tensor:
        """Squared velocity error of each token, mean over its features: (L,) float32."""
        t = batch.condition_timesteps[batch.condition_ids][:, None]  # (L, 1); 0 on conditioning tokens
        x_t = (1 - t) * batch.tokens + t * batch.noise  # (L, P)
        velocity = self.predict(model, x_t, 1 - t, t, batch)  # (L, P)
        losses = (velocity.float() - (batch.noise - batch.tokens)).square().mean(-1)
        return losses * batch.loss_mask

    def levels(self, num_steps: int, lengths: Sequence[int]) -> list[NoiseLevel]:
        """Even steps of t before the shift, which each segment has by its own tokens."""
        grid = torch.linspace(1, 0, num_steps + 1, dtype=torch.float64).tolist()
        timesteps = torch.tensor([[self.shift(t, n) for n in lengths] for t in grid], dtype=torch.float32)
        return [NoiseLevel(timesteps=t, alpha=1 - t.double(), sigma=t.double()) for t in timesteps]

    def estimate(self, output: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Estimate:
        """Of a velocity: all (L, P)."""
        return Estimate(x_0=x - sigma * output, noise=x + alpha * output, velocity=output)
