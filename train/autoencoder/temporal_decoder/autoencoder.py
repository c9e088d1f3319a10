"""A base that decodes with temporal layers, behind the trainer's interface."""

from collections.abc import Iterable

import torch
from torch import Tensor

from train.autoencoder.temporal_decoder.config import TemporalDecoderConfig
from train.autoencoder.temporal_decoder.folder import load
from train.autoencoder.tiles import tiled


class TemporalDecoderAutoencoder:
    """The latents, and so their fingerprint, are those of the base; videos are decoded with the layers."""

    def __init__(self, config: TemporalDecoderConfig, device: torch.device | None = None) -> None:
        """Loads the weights.

        Raises:
            ValueError: The folder holds no temporal decoder, or its base is missing or another one.
        """
        self._decoder = load(config, device)
        base = self._base = self._decoder.base
        self.name = f"{base.name} with a temporal decoder"
        self.fingerprint, self.device, self.codebook = base.fingerprint, base.device, base.codebook
        self.channels, self.part_frames = base.channels, base.part_frames
        self.temporal_stride, self.spatial_stride = base.temporal_stride, base.spatial_stride
        self._chunk, self._tile_px = config.chunk_latent_frames, config.tile_px

    @property
    def is_causal(self) -> bool:
        return self._base.is_causal

    @property
    def has_posterior(self) -> bool:
        return self._base.has_posterior

    def encode(self, video: Tensor) -> Tensor:
        return self._base.encode(video)

    def encode_parts(self, parts: Iterable[Tensor], *, moments: bool = False) -> Tensor:
        return self._base.encode_parts(parts, moments=moments)

    @torch.inference_mode()
    def decode(self, latent: Tensor) -> Tensor:
        stride = self.spatial_stride
        if self._tile_px is None or max(latent.shape[-2:]) * stride <= self._tile_px:
            return self._decode(latent[None])
        tile, sides = self._tile_px // stride, latent.shape[-2:]
        return tiled(lambda place: self._decode(latent[place][None]), sides, tile=tile, multiple=1, scale=(stride, 1))

    def _decode(self, latent: Tensor) -> Tensor:
        """(1, C, T', H', W') -> (1, 3, T, H, W); only a part of it is on the device at a time."""
        parts = self._decoder.decode_parts(latent.to(self.device, torch.float32), self._chunk)
        return torch.cat([part.clamp(-1.0, 1.0).cpu() for part in parts], dim=2)
