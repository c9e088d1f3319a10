"""KL: a Gaussian posterior per latent value (Kingma & Welling 2014; Rombach et al. 2022, section 3.1)."""

import torch
from torch import Tensor

from train.autoencoder.bottlenecks.base import Bottleneck, Coded
from train.autoencoder.bottlenecks.config import KLConfig

LOGVAR_RANGE = (-20.0, 4.0)


class KL(Bottleneck):
    """Half of the channels are the mean, half the logarithm of the variance. The mean is the latent."""

    has_posterior = True

    def __init__(self, config: KLConfig, latent_channels: int) -> None:
        super().__init__()
        self.config = config
        self.num_channels = latent_channels
        self.num_inputs = 2 * latent_channels

    def code(self, x: Tensor, noise: torch.Generator) -> Coded:
        mean, logvar = self.posterior(x)
        std = (0.5 * logvar).exp()
        divergence = kl_divergence(mean, logvar)
        return Coded(
            latent=mean + std * torch.randn(mean.shape, generator=noise).to(mean),
            loss=self.config.weight * divergence,
            metrics={"kl": divergence.detach(), "latent_std": mean.detach().std(), "noise_std": std.detach().mean()},
        )

    def latent(self, x: Tensor) -> Tensor:
        return self.posterior(x)[0]

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, logvar = x.chunk(2, dim=1)
        return mean, logvar.clamp(*LOGVAR_RANGE)


def kl_divergence(mean: Tensor, logvar: Tensor) -> Tensor:
    """Of the posterior from a standard normal, mean per latent value: scalar. Both are (B, C, T, H, W)."""
    return 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).mean()
