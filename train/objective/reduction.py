"""From losses of tokens to the loss of a step: one sum over all packs, one count known before."""

from typing import Literal, TypeAlias

from torch import Tensor

from train.segments import PackedBatch

Reduction: TypeAlias = Literal["sample", "token"]
"""A step's loss is the mean over its samples, or over its tokens, of all ranks and packs."""


def loss_sum(token_losses: Tensor, batch: PackedBatch, reduction: Reduction) -> Tensor:
    """Sum over a pack of the samples' mean losses, or of the tokens' losses: scalar.

    A sample's mean is over the tokens that have a loss: given frames (`loss_mask` False) count for nothing.
    """
    if reduction == "token":
        return token_losses.sum()
    counted = batch.segments.sum(batch.loss_mask.float())  # (S,)
    return (batch.segments.sum(token_losses) / counted.clamp(min=1)).sum()


def count(num_samples: int, num_tokens: int, reduction: Reduction) -> int:
    """What the sum over all packs of a step is divided by."""
    return num_tokens if reduction == "token" else num_samples
