"""A small causal video KL autoencoder: 8 x 8 pixels and four frames become one latent position.

After Latent Diffusion (Rombach et al. 2022), section 3.1: an autoencoder with a slightly KL-regularized posterior, on
whose latents a diffusion model is trained; without a discriminator. Encoder and decoder: `causal_net`.
"""

from collections.abc import Iterable, Iterator

import torch
from pydantic import Field
from torch import Tensor, nn

from train.autoencoder.causal_net import SPATIAL_STRIDE, TEMPORAL_STRIDE, Decoder, Encoder, NetworkConfig, Stream


class KLConfig(NetworkConfig):
    """Architecture and latent statistics of one set of weights; stored in the weights' folder as `config.json`."""

    latent_mean: tuple[float, ...] | None = Field(
        None, description="mean of the raw latents per channel over the training data; null before it was measured"
    )
    latent_std: tuple[float, ...] | None = Field(
        None, description="standard deviation of the raw latents per channel; null before it was measured"
    )


class CausalVideoKL(nn.Module):
    """The network. Videos are (B, 3, 1+4k, H, W) in [-1, 1], H and W multiples of 8; latents are not normalized."""

    temporal_stride = TEMPORAL_STRIDE
    spatial_stride = SPATIAL_STRIDE

    def __init__(self, config: KLConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config, out_channels=2 * config.latent_channels)
        self.decoder = Decoder(config)
        self.to(memory_format=torch.channels_last_3d)  # twice as fast on a CPU

    def encode(self, video: Tensor, *, chunk: int | None = None) -> tuple[Tensor, Tensor]:
        """Posterior mean and log variance, each (B, C, 1+k, H/8, W/8). `chunk`: latent frames at a time (memory)."""
        _check_video(video)
        parts = self.encode_parts(_chunks(video, first=1, step=TEMPORAL_STRIDE, chunk=chunk))
        means, logvars = zip(*parts, strict=True)
        return torch.cat(means, dim=2), torch.cat(logvars, dim=2)

    def encode_parts(self, parts: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Mean and log variance of consecutive parts of a video: 1+4k frames, then multiples of 4."""
        stream = Stream()
        for part in parts:
            mean, logvar = self.encoder(part, stream).chunk(2, dim=1)  # 2 x (B, C, 1+k, H/8, W/8)
            yield mean, logvar.clamp(-20.0, 4.0)
            stream.started = True

    def decode(self, latent: Tensor, *, chunk: int | None = None) -> Tensor:
        """(B, C, 1+k, H/8, W/8) -> (B, 3, 1+4k, H, W), not clamped."""
        stream, videos = Stream(), []
        for part in _chunks(latent, first=1, step=1, chunk=chunk):
            videos.append(self.decoder(part, stream))
            stream.started = True
        return torch.cat(videos, dim=2)


def _check_video(video: Tensor) -> None:
    b3thw = video.ndim == 5 and video.shape[1] == 3
    if not b3thw or video.shape[2] % TEMPORAL_STRIDE != 1 or video.shape[3] % 8 or video.shape[4] % 8:
        raise ValueError(
            f"got a video of shape {tuple(video.shape)}; expected (B, 3, T, H, W) with T = 1 + {TEMPORAL_STRIDE}k and "
            f"H and W multiples of {SPATIAL_STRIDE}: trim the frames and resize first"
        )


def _chunks(x: Tensor, *, first: int, step: int, chunk: int | None) -> Iterator[Tensor]:
    """Splits dimension 2 into `first + (chunk - 1) * step` frames, then `chunk * step` at a time; None: all."""
    if chunk is None:
        yield x
        return
    end = first + (chunk - 1) * step
    yield x[:, :, :end]
    for start in range(end, x.shape[2], chunk * step):
        yield x[:, :, start : start + chunk * step]
