"""The causal network of one's own (`train/autoencoder/network.py`) in training."""

import torch
from torch import Tensor

from curate.storage.place import AnyPath
from train.autoencoder.bottlenecks.base import Coded
from train.autoencoder.network import CausalVideoAutoencoder
from train.autoencoder.network_config import NetworkConfig
from train.autoencoder.training.base import LatentStatistics, TrainedAutoencoder
from train.autoencoder.weights_folder import save


class OwnNetwork(CausalVideoAutoencoder, TrainedAutoencoder):
    """All of its weights are trained."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        self.num_channels, self.num_codes = config.num_channels, self.bottleneck.num_codes

    @property
    def last_layer(self) -> Tensor:
        return self.decoder.head.weight

    def ids(self, latent: Tensor) -> Tensor:
        return self.bottleneck.ids(latent)

    def after_step(self, coded: Coded, noise: torch.Generator) -> None:
        self.bottleneck.update(coded, noise)

    def save(self, folder: AnyPath, statistics: LatentStatistics) -> None:
        measured = {"latent_mean": statistics.mean, "latent_std": statistics.std}
        self.config = self.config.model_copy(update=measured)
        save(self, folder)
