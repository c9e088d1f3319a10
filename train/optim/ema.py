"""Exponential moving average of the parameters, the weights that are sampled from."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from train.distributed.parallelize import reshard, to_local
from train.optim.trainable import trainable_parameters
from train.run.config import EMAConfig


class EMA:
    """float32 averages of the trainable parameters by name, sharded as the parameters are.

    Early steps use a smaller decay, (1 + n) / (10 + n), to forget the start.
    """

    def __init__(self, model: nn.Module, config: EMAConfig) -> None:
        self.config = config
        self.average = {name: p.detach().float().clone() for name, p in trainable_parameters(model).items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards `model` after optimizer step number `step`, counted from 0."""
        decay = min(self.config.decay, (1 + step) / (10 + step))
        parameters = [to_local(p.detach()).float() for p in trainable_parameters(model).values()]
        torch._foreach_lerp_([to_local(average) for average in self.average.values()], parameters, 1 - decay)

    def state_dict(self) -> dict[str, Tensor]:
        """The averages themselves: what is loaded into them is the state."""
        return dict(self.average)

    @contextmanager
    def applied_to(self, model: nn.Module) -> Iterator[None]:
        """Run `model` with the averaged weights, then give it its own back.

        The two change places, one parameter after the other: there is no third copy.
        """
        self._swap(model)
        try:
            yield
        finally:
            self._swap(model)

    @torch.no_grad()
    def _swap(self, model: nn.Module) -> None:
        reshard(model)
        for name, parameter in trainable_parameters(model).items():
            own, average = to_local(parameter), to_local(self.average[name])
            kept = own.clone()
            own.copy_(average)
            average.copy_(kept)
        # Autocast keeps casts of weights by their tensors, which are the same ones: with other values in them.
        torch.clear_autocast_cache()
