"""A temporal decoder in training: its base encodes, and stays as it is."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from curate.storage.place import AnyPath
from train.autoencoder.base import VideoAutoencoder
from train.autoencoder.bottlenecks.base import Coded
from train.autoencoder.temporal_decoder.folder import save
from train.autoencoder.temporal_decoder.network import TemporalDecoder
from train.autoencoder.temporal_decoder.training_config import TrainTemporalDecoderConfig
from train.autoencoder.training.base import LatentStatistics, TrainedAutoencoder


class TrainedTemporalDecoder(TemporalDecoder, TrainedAutoencoder):
    """Latents are those that are stored, normalized; nothing of the base's encoder is a parameter."""

    measures_start = True

    def __init__(self, settings: TrainTemporalDecoderConfig, base: VideoAutoencoder) -> None:
        super().__init__(base, settings.trains)
        self.settings = settings
        self.temporal_stride, self.spatial_stride = base.temporal_stride, base.spatial_stride
        self.num_channels = base.channels

    @property
    def blocks(self) -> Sequence[nn.Module]:
        return list(self.layers)

    @property
    def last_layer(self) -> Tensor:
        return self.layers[-1].temporal.conv.weight

    def forward(self, video: Tensor, noise: torch.Generator) -> tuple[Tensor, Coded]:
        latent = self.latent(video)
        return self.decode(latent), Coded(latent=latent, loss=latent.new_zeros(()), metrics={})

    @torch.no_grad()
    def latent(self, video: Tensor, *, chunk: int | None = None) -> Tensor:
        with torch.autocast(video.device.type, enabled=False):  # as `encode` makes them
            latent = self.base.encode_parts([video])
        return latent.to(video.device, copy=True)  # no longer a tensor of inference mode

    def save(self, folder: AnyPath, statistics: LatentStatistics) -> None:
        save(self, self.settings, folder)
