"""FSQ: every channel is rounded to a few levels (Mentzer et al. 2023, "Finite Scalar Quantization: VQ-VAE Made
Simple", section 3). The codebook is the product of the levels: it is not learned, and cannot collapse."""

from math import prod

import torch
from torch import Tensor

from train.autoencoder.bottlenecks.base import Bottleneck, Coded, usage
from train.autoencoder.bottlenecks.config import FSQConfig

MARGIN = 1e-3
"""Of the outermost levels, which tanh reaches at infinity only."""
MOST_COUNTED = 2**20
"""Codes that a usage is counted of while training."""


class FSQ(Bottleneck):
    """Latents are in [-1, 1]: level i of L is `(i - L // 2) / (L // 2)`, as in the paper's appendix A.1."""

    levels: Tensor
    bases: Tensor

    def __init__(self, config: FSQConfig, latent_channels: int) -> None:
        super().__init__()
        self.config = config
        self.num_channels = self.num_inputs = len(config.levels)
        self.num_codes: int = prod(config.levels)
        levels = torch.tensor(config.levels)
        self.register_buffer("levels", levels, persistent=False)
        bases = torch.cat([torch.ones(1, dtype=torch.int64), levels.cumprod(0)[:-1]])
        self.register_buffer("bases", bases, persistent=False)

    def code(self, x: Tensor, noise: torch.Generator) -> Coded:
        bounded = self._bounded(x.float())
        rounded = bounded + (bounded.round() - bounded).detach()  # straight through
        latent = rounded / self._halves
        counted = usage(self.ids(latent.detach()), self.num_codes) if self.num_codes <= MOST_COUNTED else {}
        return Coded(latent=latent, loss=x.new_zeros(()), metrics=counted)

    def latent(self, x: Tensor) -> Tensor:
        return self._bounded(x.float()).round() / self._halves

    def ids(self, latent: Tensor) -> Tensor:
        digits = (latent * self._halves).round().long() + self._column(self.levels) // 2  # (B, C, T, H, W), 0 to L - 1
        return (digits * self._column(self.bases)).sum(1)

    def tables(self) -> tuple[Tensor, ...]:
        """One per channel: its levels."""
        device = self.levels.device
        return tuple((torch.arange(n, device=device)[:, None] - n // 2) / (n // 2) for n in self.config.levels)

    def _bounded(self, x: Tensor) -> Tensor:
        """To what rounds to the levels: L values from `-(L // 2)` on. An even L is not symmetric about 0."""
        levels = self._column(self.levels)
        reach = (levels - 1) * (1 + MARGIN) / 2
        offset = torch.where(levels % 2 == 0, 0.5, 0.0)
        return (x + (offset / reach).atanh()).tanh() * reach - offset

    @property
    def _halves(self) -> Tensor:
        return self._column(self.levels) // 2

    @staticmethod
    def _column(values: Tensor) -> Tensor:
        return values.view(1, -1, 1, 1, 1)
