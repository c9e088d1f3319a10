"""Super-resolution in training. With its base it is an autoencoder of larger videos: they are made smaller, coded and
decoded by the base, and enlarged by the network."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from curate.storage.place import AnyPath
from train.autoencoder.base import VideoAutoencoder
from train.autoencoder.bottlenecks.base import Coded
from train.autoencoder.causal_net import Stream
from train.autoencoder.super_resolution.config import TrainSuperResolutionConfig
from train.autoencoder.super_resolution.folder import save
from train.autoencoder.super_resolution.network import SuperResolution, reduced
from train.autoencoder.training.base import LatentStatistics, TrainedAutoencoder


class TrainedSuperResolution(SuperResolution, TrainedAutoencoder):
    """Latents are the base's, of the smaller video, normalized; nothing of the base is a parameter."""

    measures_start = True

    def __init__(self, settings: TrainSuperResolutionConfig, base: VideoAutoencoder) -> None:
        super().__init__(settings)
        self.base = base
        self.temporal_stride, self.spatial_stride = base.temporal_stride, base.spatial_stride * settings.factor
        self.num_channels = base.channels
        self.to(base.device)

    @property
    def blocks(self) -> Sequence[nn.Module]:
        return list(self.layers)

    @property
    def last_layer(self) -> Tensor:
        return self.head.weight

    def forward(self, video: Tensor, noise: torch.Generator) -> tuple[Tensor, Coded]:  # type: ignore[override]
        latent = self.latent(video)
        return self.decode(latent), Coded(latent=latent, loss=latent.new_zeros(()), metrics={})

    @torch.no_grad()
    def latent(self, video: Tensor, *, chunk: int | None = None) -> Tensor:
        with torch.autocast(video.device.type, enabled=False):  # as `encode` makes them
            latent = self.base.encode_parts([reduced(video, self.config.factor)])
        return latent.to(video.device, copy=True)  # no longer a tensor of inference mode

    def decode(self, latent: Tensor, *, chunk: int | None = None) -> Tensor:
        with torch.no_grad(), torch.autocast(latent.device.type, enabled=False):
            small = torch.cat([self.base.decode(one) for one in latent]).to(latent.device, copy=True)
        return SuperResolution.forward(self, small, Stream(is_whole=True))

    def save(self, folder: AnyPath, statistics: LatentStatistics) -> None:
        save(self, self.base, folder)
