"""What stands between an encoder and a decoder: the encoder's output becomes a latent, and costs something."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Coded:
    """What a bottleneck makes of an encoder's output while it is trained.

    Attributes:
        latent: (B, C, T, H, W), what the decoder is given; gradients reach the encoder's output.
        loss: Scalar, weighted as the settings say, to be added to the losses of the reconstruction.
        metrics: Scalars for the log.
        updates: What `update` needs of this batch.
    """

    latent: Tensor
    loss: Tensor
    metrics: Mapping[str, Tensor]
    updates: Mapping[str, Tensor] = field(default_factory=dict)


class Bottleneck(nn.Module, ABC):
    """A module, so that codebooks are saved, averaged and moved with the network.

    Attributes:
        num_inputs: Channels that it reads per position.
        num_channels: Channels C of a latent.
        num_codes: Size of the codebook; None where latents are continuous.
        has_posterior: It gives a Gaussian per latent value.
    """

    num_inputs: int
    num_channels: int
    num_codes: int | None = None
    has_posterior: bool = False

    @abstractmethod
    def code(self, x: Tensor, noise: torch.Generator) -> Coded:
        """For training.

        Args:
            x: (B, num_inputs, T, H, W) float32.
            noise: on the CPU; makes what is random.
        """

    @abstractmethod
    def latent(self, x: Tensor) -> Tensor:
        """(B, num_inputs, T, H, W) to the latents (B, C, T, H, W) that are stored: the mode, or the code vectors."""

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance, each (B, C, T, H, W), of (B, num_inputs, T, H, W)."""
        raise TypeError(f"{type(self).__name__} has no Gaussian posterior")

    def update(self, coded: Coded, noise: torch.Generator) -> None:
        """What is learned without gradients, such as a codebook: called after each optimizer step, on all ranks."""

    def ids(self, latent: Tensor) -> Tensor:
        """(B, C, T, H, W) code vectors to their numbers, (B, T, H, W) int64."""
        raise TypeError(f"{type(self).__name__} has continuous latents: there are no ids")

    def tables(self) -> tuple[Tensor, ...]:
        """The codebook, as `look_up` takes it: (K, C) float32, or a table for each group of channels."""
        raise TypeError(f"{type(self).__name__} has continuous latents: there are no codes")

    def vectors(self, ids: Tensor) -> Tensor:
        """(B, T, H, W) int64 to code vectors (B, C, T, H, W): the inverse of `ids`."""
        return look_up(ids, self.tables()).movedim(-1, 1)


def look_up(ids: Tensor, tables: Sequence[Tensor]) -> Tensor:
    """Numbers of codes (…) int64 to vectors (…, C).

    A vector is a row of each table, one after the other. Its number counts the combinations of rows, the first table
    fastest: 0 to the product of the tables' lengths - 1.
    """
    rows = []
    for table in tables:
        rows.append(table[ids % len(table)])
        ids = ids // len(table)
    return torch.cat(rows, dim=-1)


def usage(ids: Tensor, num_codes: int) -> dict[str, Tensor]:
    """Share of the codes that occur, and perplexity: e to the entropy of their frequencies, 1 to `num_codes`."""
    counts = torch.bincount(ids.flatten(), minlength=num_codes).float()
    frequencies = counts / counts.sum().clamp(min=1)
    entropy = -torch.special.xlogy(frequencies, frequencies).sum()
    return {"code_usage": (counts > 0).float().mean(), "perplexity": entropy.exp()}
