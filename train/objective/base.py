"""What an objective is: how noisy a training sample is made, and what the model's answer is compared with.

A new one is a file with its class, and its settings in `train/objective/config.py`.
"""

from typing import Literal, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from train.packing.batch import PackedBatch

Prediction: TypeAlias = Literal["velocity", "epsilon", "v", "x0"]


class Objective(Protocol):
    """Timesteps are numbers in [0, 1]: 0 is data, 1 is noise."""

    def draw_timestep(self, generator: torch.Generator, num_tokens: int) -> float:
        """One training timestep for a sample whose whole grid has `num_tokens`."""

    def token_losses(self, model: nn.Module, batch: PackedBatch) -> Tensor:
        """Loss of each token, mean over its features: (L,) float32; 0 where `batch.loss_mask` is False."""

    def loss_sum(self, token_losses: Tensor, batch: PackedBatch) -> Tensor:
        """This pack's share of a step's loss, before division by `count` of the whole step: scalar."""

    def count(self, num_samples: float, num_tokens: float) -> float:
        """What the sum over all packs of a step, on all ranks, is divided by."""
