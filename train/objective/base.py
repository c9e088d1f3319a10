"""What an objective is: how a training sample is made noisy, what the model's output is compared with, and what that
output says of data and noise.

A new one is a file with its class, a file with its settings, which need no torch, and a line in
`train/objective/config.py`. A sampler knows no objective: it asks for the noise levels of its steps and for an
`Estimate` at each of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from train.packing.batch import PackedBatch


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseLevel:
    """x_t = alpha x_0 + sigma ε, for each of S segments. Data have alpha 1 and sigma 0."""

    timesteps: Tensor  # (S,) float32 in [0, 1]: what the model is told
    alpha: Tensor  # (S,) float64
    sigma: Tensor  # (S,) float64

    @property
    def scale(self) -> Tensor:
        """x_t / scale lies on the straight path (1 - time) x_0 + time ε: (S,) float64."""
        return self.alpha + self.sigma

    @property
    def time(self) -> Tensor:
        """Share of the noise in x_t, from 0 (data) to 1 (noise), the same number for every objective: (S,) float64."""
        return self.sigma / self.scale

    @property
    def log_snr(self) -> Tensor:
        """log(alpha² / sigma²): (S,) float64; -inf for pure noise, inf for data."""
        return 2 * (self.alpha.log() - self.sigma.log())


Quantity: TypeAlias = Literal["x_0", "noise", "velocity", "variance"]
"""A part of an `Estimate`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What one output of the model says of x_t = alpha x_0 + sigma ε: (L, P) each."""

    x_0: Tensor
    noise: Tensor  # ε
    velocity: Tensor  # ε - x_0
    variance: Tensor | None = None  # from -1 (the posterior's) to 1 (β's), in the logarithm; None: it is not learned


class ObjectiveSettings(Protocol):
    """What is known of an objective without torch."""

    @property
    def kind(self) -> str: ...

    @property
    def num_outputs(self) -> int:
        """Values that the model predicts for each feature of a token: 1, with learned variances 2."""
        ...

    @property
    def gives(self) -> frozenset[Quantity]:
        """Parts of an `Estimate` that it fills."""
        ...

    def check_timestep(self, timestep: float) -> None:
        """Raises ValueError if there is no such timestep."""

    def check_num_steps(self, num_steps: int) -> None:
        """Raises ValueError if a sampler cannot take so many steps."""


class Objective(Protocol):
    """Timesteps are numbers in [0, 1]: 0 is data, 1 is noise."""

    @property
    def config(self) -> ObjectiveSettings: ...

    def draw_timestep(self, generator: torch.Generator, num_tokens: int) -> float:
        """One training timestep for a sample whose whole grid has `num_tokens`."""

    def token_losses(self, model: nn.Module, batch: PackedBatch) -> Tensor:
        """Loss of each token, mean over its features: (L,) float32; 0 where `batch.loss_mask` is False."""

    def loss_sum(self, token_losses: Tensor, batch: PackedBatch) -> Tensor:
        """This pack's share of a step's loss, before division by `count` of the whole step: scalar."""

    def count(self, num_samples: float, num_tokens: float) -> float:
        """What the sum over all packs of a step, on all ranks, is divided by."""

    def levels(self, num_steps: int, lengths: Sequence[int]) -> list[NoiseLevel]:
        """The num_steps + 1 noise levels of a sampler, on the CPU: from noise to data, where the model is not asked.

        Args:
            num_steps: steps from noise to data.
            lengths: tokens of each segment.

        Raises:
            ValueError: the objective has fewer timesteps.
        """

    def estimate(self, output: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Estimate:
        """What the model's output says.

        Args:
            output: (L, P), with learned variances (L, 2 P).
            x: (L, P) the noisy tokens that the model saw.
            alpha: (L, 1) at the level of each token.
            sigma: (L, 1) likewise.
        """
