"""Bytes that a U-Net keeps for its backward pass, measured on a narrow one: they grow with the width."""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from train.model.activations import bytes_per_token
from train.model.base import Denoiser, Losses
from train.model.unet.config import UNetConfig


def kept_bytes_per_token(
    model: Denoiser,
    config: UNetConfig,
    losses: Losses,
    dtype: torch.dtype,
    checkpoint_every: int,
    freeze: Callable[[nn.Module], None] | None = None,
) -> float:
    """
    Args:
        model: whose channels are taken.
        config: of the model.
        losses: of the objective.
        dtype: of activations.
        checkpoint_every: every n-th block keeps its input alone; 0: none.
        freeze: makes the narrow one ready as the run's model is.
    """
    narrow = config.model_copy(update={"width": 8, "num_groups": 4, "head_width": 8, "condition_width": 8})

    def measured(checkpointed: list[int]) -> float:
        small = narrow.build(channels=model.channels, text_dim=model.text_dim, num_outputs=model.num_outputs)
        if freeze is not None:
            freeze(small)
        for number in checkpointed:
            block = small.blocks[number]
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
        return bytes_per_token(small, losses, dtype)

    with torch.random.fork_rng(devices=[]):
        numbers = list(range(0, config.num_blocks, checkpoint_every)) if checkpoint_every else []
        kept = measured(numbers)
        if numbers:
            # The last block, of the finest level and the widest input, stands for the one that is computed again.
            last = config.num_blocks - 1
            kept += measured([]) - measured([last])
            shapes = [narrow.block_shapes[number] for number in numbers]
            kept += sum(shape.in_width / 4**shape.level for shape in shapes) * dtype.itemsize
    return kept * config.width / narrow.width
