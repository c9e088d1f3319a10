"""What objectives share: the model's output for noisy tokens; from losses of tokens to the loss of a step."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from train.objective.base import Estimate
from train.objective.self_conditioning import shown
from train.objective.settings import Reduction
from train.packing.batch import PackedBatch


class ReducedObjective(ABC):
    """A step's loss is one sum over all packs, divided by one count that is known before."""

    def __init__(self, reduction: Reduction) -> None:
        self.reduction = reduction

    @abstractmethod
    def estimate(self, output: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Estimate:
        """As in `Objective`."""

    def predict(self, model: nn.Module, x: Tensor, alpha: Tensor, sigma: Tensor, batch: PackedBatch) -> Tensor:
        """The model's output for x = alpha x_0 + sigma ε, of (L, P), (L, 1) and (L, 1): (L, P), with learned variances
        (L, 2 P).

        A model that reads its own estimate has a pass without gradients before, over the whole pack, whichever samples
        are shown it: packs of like cost stay so, and ranks that gather weights do so together.
        """
        if batch.self_conditioned is not None:
            with torch.no_grad():
                output = model(x, batch.timesteps, batch).float()  # (L, P)
                x_0 = self.estimate(output, x, alpha, sigma).x_0  # (L, P)
            is_shown = batch.segments.gather(batch.self_conditioned)[:, None]  # (L, 1)
            batch = shown(batch, torch.where(is_shown, x_0, 0.0))
        return model(x, batch.timesteps, batch)

    def loss_sum(self, token_losses: Tensor, batch: PackedBatch) -> Tensor:
        """Sum over a pack of the samples' mean losses, or of the tokens' losses: scalar.

        A sample's mean is over the tokens that have a loss: conditioning tokens (`loss_mask` False) do not count.
        """
        if self.reduction == "token":
            return token_losses.sum()
        return (batch.segments.sum(token_losses) / batch.num_learned.clamp(min=1)).sum()

    def count(self, num_samples: float, num_tokens: float) -> float:
        """What the sum over all packs of a step is divided by."""
        return num_tokens if self.reduction == "token" else num_samples
