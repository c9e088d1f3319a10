"""From losses of tokens to the loss of a step: one sum over all packs, one count known before."""

from torch import Tensor

from train.objective.settings import Reduction
from train.packing.batch import PackedBatch


class ReducedObjective:
    """What objectives share: how losses of tokens become the loss of a step."""

    def __init__(self, reduction: Reduction) -> None:
        self.reduction = reduction

    def loss_sum(self, token_losses: Tensor, batch: PackedBatch) -> Tensor:
        """Sum over a pack of the samples' mean losses, or of the tokens' losses: scalar.

        A sample's mean is over the tokens that have a loss: conditioning tokens (`loss_mask` False) do not count.
        """
        if self.reduction == "token":
            return token_losses.sum()
        counted = batch.segments.sum(batch.loss_mask.float())  # (S,)
        return (batch.segments.sum(token_losses) / counted.clamp(min=1)).sum()

    def count(self, num_samples: float, num_tokens: float) -> float:
        """What the sum over all packs of a step is divided by."""
        return num_tokens if self.reduction == "token" else num_samples
