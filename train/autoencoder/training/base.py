"""What the training loop knows of the network that it trains."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from curate.storage.place import AnyPath
from train.autoencoder.bottlenecks.base import Coded


@dataclass(frozen=True, kw_only=True, slots=True)
class LatentStatistics:
    """Of raw latents over training data, per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class TrainedAutoencoder(nn.Module, ABC):
    """An autoencoder in training. Parameters with `requires_grad` are trained, averaged and saved; so are persistent
    buffers, without an average. Freeze before a run begins.

    Attributes:
        temporal_stride, spatial_stride: Videos have 1 + temporal_stride · k frames, and sides that are multiples of
            `spatial_stride`.
        num_channels: Of a latent position.
        num_codes: Size of the codebook; None where latents are continuous.
        measures_start: Held-out clips are measured before the first step, too: it begins as something that works.
    """

    temporal_stride: int
    spatial_stride: int
    num_channels: int
    num_codes: int | None = None
    measures_start: bool = False

    @property
    @abstractmethod
    def blocks(self) -> Sequence[nn.Module]:
        """Modules that hold most of the weights, each called once in a forward pass."""

    @property
    @abstractmethod
    def last_layer(self) -> Tensor:
        """Weights of the last layer, by whose gradients an adversary is scaled."""

    @abstractmethod
    def forward(self, video: Tensor, noise: torch.Generator) -> tuple[Tensor, Coded]:
        """For training.

        Args:
            video: (B, 3, T, H, W) in [-1, 1].
            noise: on the CPU; makes what is random.

        Returns:
            The reconstruction, (B, 3, T, H, W) float32, not clamped, and what the bottleneck made: its loss is added
            to that of the reconstruction.
        """

    @abstractmethod
    def latent(self, video: Tensor, *, chunk: int | None = None) -> Tensor:
        """The latents that are stored, (B, num_channels, T', H', W'), not normalized; `chunk` of their frames at a
        time, None: all."""

    @abstractmethod
    def decode(self, latent: Tensor, *, chunk: int | None = None) -> Tensor:
        """(B, num_channels, T', H', W') to (B, 3, T, H, W), not clamped."""

    def ids(self, latent: Tensor) -> Tensor:
        """(B, num_channels, T', H', W') to the numbers of its codes, (B, T', H', W') int64."""
        raise TypeError(f"{type(self).__name__} has continuous latents: there are no ids")

    def after_step(self, coded: Coded, noise: torch.Generator) -> None:
        """What is learned without gradients: called after each optimizer step, on all ranks."""

    @abstractmethod
    def save(self, folder: AnyPath, statistics: LatentStatistics) -> None:
        """Write what `encode.autoencoder` takes; called on the first rank, with the averaged weights in place."""
