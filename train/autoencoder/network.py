"""A small causal video autoencoder: encoder, bottleneck, decoder, without an adversary.

After Latent Diffusion (Rombach et al. 2022), section 3.1: a diffusion model is trained on its latents.
Encoder and decoder: `causal_net`. Bottlenecks: `bottlenecks`.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from train.autoencoder.bottlenecks.base import Coded
from train.autoencoder.causal_net import Decoder, Encoder, Stream
from train.autoencoder.network_config import NetworkConfig


class CausalVideoAutoencoder(nn.Module):
    """Videos are (B, 3, 1 + temporal_stride · k, H, W) in [-1, 1], H and W multiples of `spatial_stride`; latents are
    not normalized."""

    temporal_stride: int
    spatial_stride: int

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.temporal_stride, self.spatial_stride = config.temporal_stride, config.spatial_stride
        self.bottleneck = config.bottleneck.build(config.latent_channels)
        self.encoder = Encoder(config, out_channels=self.bottleneck.num_inputs)
        self.decoder = Decoder(config)
        self.to(memory_format=torch.channels_last_3d)  # twice as fast on a CPU

    @property
    def blocks(self) -> list[nn.Module]:
        """What is sharded, compiled and checkpointed one by one."""
        return [*self.encoder.layers, *self.decoder.layers]

    def forward(self, video: Tensor, noise: torch.Generator) -> tuple[Tensor, Coded]:
        """For training: the reconstruction (B, 3, T, H, W), not clamped, and what the bottleneck made."""
        encoded = self.encode(video)
        with torch.autocast(video.device.type, enabled=False):
            coded = self.bottleneck.code(encoded, noise)
        return self.decode(coded.latent), coded

    def encode(self, video: Tensor, *, chunk: int | None = None) -> Tensor:
        """What the bottleneck reads, (B, num_inputs, T', H', W') float32. `chunk`: latent frames at a time."""
        if chunk is None:
            self._check(video)
            return self.encoder(video, Stream(is_whole=True))
        return torch.cat(list(self.encode_parts(self.parts(video, chunk))), dim=2)

    def parts(self, video: Tensor, chunk: int) -> Iterator[Tensor]:
        """A video as parts of `chunk` latent frames, for `encode_parts`."""
        self._check(video)
        return _chunks(video, first=1, step=self.temporal_stride, chunk=chunk)

    def encode_parts(self, parts: Iterable[Tensor]) -> Iterator[Tensor]:
        """What the bottleneck reads of consecutive parts of a video: 1 + temporal_stride · k frames, then multiples of
        temporal_stride."""
        stream = Stream()
        for part in parts:
            yield self.encoder(part, stream)
            stream.started = True

    def latent(self, video: Tensor, *, chunk: int | None = None) -> Tensor:
        """The latents that are stored, (B, C, T', H', W'), not normalized."""
        return self.bottleneck.latent(self.encode(video, chunk=chunk))

    def decode(self, latent: Tensor, *, chunk: int | None = None) -> Tensor:
        """(B, C, T', H', W') -> (B, 3, T, H, W), not clamped."""
        if chunk is None:
            return self.decoder(latent, Stream(is_whole=True))
        stream, videos = Stream(), []
        for part in _chunks(latent, first=1, step=1, chunk=chunk):
            videos.append(self.decoder(part, stream))
            stream.started = True
        return torch.cat(videos, dim=2)

    def _check(self, video: Tensor) -> None:
        in_time, in_space = self.temporal_stride, self.spatial_stride
        is_b3thw = video.ndim == 5 and video.shape[1] == 3
        if not is_b3thw or (video.shape[2] - 1) % in_time or video.shape[3] % in_space or video.shape[4] % in_space:
            raise ValueError(
                f"got a video of shape {tuple(video.shape)}; expected (B, 3, T, H, W) with T = 1 + {in_time}k and "
                f"H and W multiples of {in_space}: trim the frames and resize first"
            )


def _chunks(x: Tensor, *, first: int, step: int, chunk: int) -> Iterator[Tensor]:
    """Splits dimension 2 into `first + (chunk - 1) * step` frames, then `chunk * step` at a time."""
    end = first + (chunk - 1) * step
    yield x[:, :, :end]
    for start in range(end, x.shape[2], chunk * step):
        yield x[:, :, start : start + chunk * step]
