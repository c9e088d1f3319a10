"""Rectified flow (Liu et al. 2023; Lipman et al. 2023) with the timesteps of Stable Diffusion 3
(Esser et al. 2024, §3.1 and §5.3.2).

Convention: x_t = (1 - t) x_0 + t ε. t = 0 is data, t = 1 is noise. The model predicts the velocity
v = dx_t/dt = ε - x_0, so x_0 = x_t - t v and a sampler integrates from t = 1 down to 0.
"""

import math
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from train.objective.reduction import ReducedObjective, Reduction
from train.segments import PackedBatch


class FlowConfig(BaseModel):
    """How timesteps are drawn and losses weighed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["flow"] = "flow"
    timesteps: Literal["logit_normal", "uniform", "mode"] = Field(
        "logit_normal", description="distribution of t in training"
    )
    logit_mean: float = Field(0.0, description="mean of logit(t); above 0 leans to noise")
    logit_std: float = Field(1.0, gt=0, description="standard deviation of logit(t)")
    mode_scale: float = Field(
        1.29, ge=-1, le=1.75, description="of `mode`: above 0 favors the middle, below it the ends (0: uniform)"
    )
    shift_base_tokens: int | None = Field(
        None, ge=1, description="samples of n tokens shift t to noise by sqrt(n / shift_base_tokens); none: no shift"
    )
    reduction: Reduction = Field("sample", description="a step's loss is the mean over its samples, or its tokens")

    def build(self) -> "RectifiedFlow":
        return RectifiedFlow(self)


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
        """t' = s t / (1 + (s - 1) t), s = sqrt(n / base): more tokens need more noise to lose the same signal."""
        if self.config.shift_base_tokens is None:
            return t
        s = math.sqrt(num_tokens / self.config.shift_base_tokens)
        return s * t / (1 + (s - 1) * t)

    def check_timestep(self, timestep: float) -> None:
        """Any in [0, 1].

        Raises:
            ValueError: it is none.
        """
        if not 0 <= timestep <= 1:
            raise ValueError(f"got timestep {timestep:g}; a flow has those from 0 (data) to 1 (noise)")

    def token_losses(self, model: nn.Module, batch: PackedBatch) -> Tensor:
        """Squared velocity error of each token, mean over its features: (L,) float32."""
        t = batch.row_timesteps[batch.row_ids][:, None]  # (L, 1); 0 on given tokens
        x_t = (1 - t) * batch.tokens + t * batch.noise  # (L, P)
        velocity = model(x_t, batch.timesteps, batch)  # (L, P)
        losses = (velocity.float() - (batch.noise - batch.tokens)).square().mean(-1)
        return losses * batch.loss_mask
