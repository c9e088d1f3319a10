"""Alignment while a run trains: a block's features, projected, point where an image encoder's do (REPA, Yu et al.
2024, §3.2).

A new kind is a file with its class, a file with its settings, and a line in `train/align/config.py`. The projector is
trained, saved and averaged with the model, and left out when it is sampled or exported.
"""

from abc import ABC, abstractmethod
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from train.align.loss import Projector
from train.align.settings import AlignSettings
from train.objective.base import Objective
from train.packing.batch import PackedBatch


class TokenFeatures(Protocol):
    """What an image encoder says of the tokens of samples, while they are loaded."""

    def of(self, index: int, row: dict[str, Any], num_frames: int) -> Tensor:
        """
        Args:
            index: of the row in the manifest of the training clips.
            row: of that manifest.
            num_frames: of the latent, those that the plan keeps.

        Returns:
            (t * h * w, F) float16, of the whole grid; from any thread.

        Raises:
            ValueError: names the clip.
        """


class Alignment(ABC):
    """The alignment loss, which is added to that of the objective.

    Args:
        config: of the run.
        target: names what features are aligned to; a run resumes with the same alone.
        width: features per token of the aligned block.
        dim: of what they are aligned to.
        seed: of the projector's weights.
        features: what the loader is to put into packs; None: nothing.
    """

    def __init__(
        self,
        config: AlignSettings,
        target: str,
        *,
        width: int,
        dim: int,
        seed: int,
        features: TokenFeatures | None = None,
    ) -> None:
        self.config, self.target, self.features = config, target, features
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.projector = Projector(width, dim, config.projector_dim)

    @abstractmethod
    def loss_sum(self, features: Tensor, batch: PackedBatch) -> Tensor:
        """Sum of the samples' losses of features (L, D) of the block, scalar float32. Ranks that share a pack give
        their parts of it."""

    def losses(self, model: nn.Module, objective: Objective, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        """The objective's losses of tokens, (L,), and the sum of the samples' weighted alignment losses, from one
        forward pass."""
        watched = _Watched(model, self.config.block)
        token_losses = objective.token_losses(watched, batch)
        return token_losses, self.config.weight * self.loss_sum(watched.features, batch)


class _Watched(nn.Module):
    """A model that remembers what one block gave in its last forward pass."""

    features: Tensor

    def __init__(self, model: nn.Module, block: int) -> None:
        super().__init__()
        self._call = model.__call__  # not as a module: whose parameters would then be counted twice
        self.block = block

    def forward(self, x: Tensor, timesteps: Tensor, batch: PackedBatch) -> Tensor:
        out, self.features = self._call(x, timesteps, batch, features_of=self.block)
        return out
