"""The causal network of one's own (`train/autoencoder/network.py`) in training."""

from itertools import chain

import torch
from torch import Tensor, nn

from curate.storage.place import AnyPath
from train.autoencoder.bottlenecks.base import Coded
from train.autoencoder.causal_net import Block
from train.autoencoder.network import CausalVideoAutoencoder
from train.autoencoder.network_config import NetworkConfig
from train.autoencoder.training.base import LatentStatistics, TrainedAutoencoder
from train.autoencoder.weights_folder import save

TRUNK = ("spatial_stride", "temporal_stride", "over_time", "level_widths")
AT_THE_LATENTS = ("encoder.head", "bottleneck", "decoder.stem")
"""Layers whose shapes depend on the bottleneck."""


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

    def begin_with(self, other: CausalVideoAutoencoder) -> list[str]:
        """Take the weights of a trained network. Where a level has more blocks than there, the further ones come after
        those that are trained, and are the identity. Layers at the latents stay as they are where the other's have
        other shapes, or another kind of bottleneck between them: their names.

        Raises:
            ValueError: the layers before and after them are other ones.
        """
        unlike = [name for name in TRUNK if getattr(other.config, name) != getattr(self.config, name)]
        theirs, ours = (chain(*model.config.level_blocks) for model in (other, self))
        if unlike or any(there > here for there, here in zip(theirs, ours, strict=True)):
            names = unlike or ["level_blocks"]
            told = (f"{name} {getattr(other.config, name)} (here {getattr(self.config, name)})" for name in names)
            raise ValueError(f"its network has {', '.join(told)}; set them as there, or more blocks")
        new = [layer for layer in AT_THE_LATENTS if not self._fits(layer, other)]
        trained = _layers(other)
        for name, layer in _layers(self).items():
            if layer.state_dict() and name in trained and name not in new:
                layer.load_state_dict(trained[name].state_dict())
        return new

    def _fits(self, layer: str, other: CausalVideoAutoencoder) -> bool:
        theirs, ours = (
            {name: value.shape for name, value in model.state_dict().items() if name.startswith(layer)}
            for model in (other, self)
        )
        same_kind = other.config.bottleneck.kind == self.config.bottleneck.kind
        return not ours or (theirs == ours and (same_kind or layer == "decoder.stem"))


def _layers(model: CausalVideoAutoencoder) -> dict[str, nn.Module]:
    """By name; those between stem and head by their level, and their place in it."""
    found: dict[str, nn.Module] = {"bottleneck": model.bottleneck}
    for part, net in (("encoder", model.encoder), ("decoder", model.decoder)):
        found |= {f"{part}.stem": net.stem, f"{part}.head": net.head}
        level = place = 0
        for layer in net.layers:
            level, place = (level, place + 1) if isinstance(layer, Block) else (level + 1, 0)
            found[f"{part}.{level}.{place}"] = layer
    return found
