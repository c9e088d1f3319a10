"""The embedded autoencoder, and any other that `reelpack train-autoencoder` wrote, behind the trainer's interface."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor

from curate.device import pick_device, with_index
from train.autoencoder.bottlenecks.base import Bottleneck, look_up
from train.autoencoder.config import ReelpackConfig
from train.autoencoder.network import CausalVideoAutoencoder
from train.autoencoder.tiles import tiled
from train.autoencoder.weights_folder import load

EMBEDDED_WEIGHTS = Path(__file__).parent / "weights"
EMBEDDED = {"embedded": EMBEDDED_WEIGHTS, "embedded-fsq": EMBEDDED_WEIGHTS.with_name("weights_fsq")}
"""Folders of the embedded weights, by the names that stand for them."""


class ReelpackAutoencoder:
    """The bottleneck's latents, normalized per channel. Computes in float32."""

    is_causal = True

    def __init__(self, config: ReelpackConfig, device: torch.device | None = None) -> None:
        """Loads the weights.

        Raises:
            ValueError: The folder lacks weights, their configuration or the latents' statistics.
        """
        folder = self.folder = weights_of(config.path)
        model, self.fingerprint = load(folder)
        settings = model.config
        if settings.latent_mean is None or settings.latent_std is None:
            raise ValueError(
                f"{folder}: the configuration has no latent_mean and latent_std; finish the training first"
            )
        self.name = f"reelpack_{settings.bottleneck.kind}"
        self.channels = settings.num_channels
        self.temporal_stride, self.spatial_stride = model.temporal_stride, model.spatial_stride
        self.device = with_index(pick_device(config.device, setting="encode.autoencoder.device", worker=device))
        self._tile_px = config.tile_px
        self._chunk = config.chunk_latent_frames
        self.part_frames: int | None = self.temporal_stride * config.chunk_latent_frames
        self._model = model.to(self.device)
        self._mean = torch.tensor(settings.latent_mean, device=self.device).view(-1, 1, 1, 1)
        self._std = torch.tensor(settings.latent_std, device=self.device).view(-1, 1, 1, 1)
        self.has_posterior = model.bottleneck.has_posterior
        num_codes = model.bottleneck.num_codes
        self.codebook = None if num_codes is None else _Codes(num_codes, model.bottleneck, self._mean, self._std)

    @classmethod
    def from_pretrained(
        cls, folder: str | Path | None = None, *, device: Literal["auto", "cpu", "cuda"] = "auto"
    ) -> Self:
        """That of RUN/weights, or, without a folder, the embedded one.

        Raises:
            ValueError: The folder lacks weights, their configuration or the latents' statistics.
        """
        return cls(ReelpackConfig(path=None if folder is None else str(folder), device=device))

    @torch.inference_mode()
    def encode(self, video: Tensor) -> Tensor:
        return self._encode_batch(video)[0]

    @torch.inference_mode()
    def encode_parts(self, parts: Iterable[Tensor], *, moments: bool = False) -> Tensor:
        if self._tile_px is not None:  # a tile has all frames
            return self._encode_batch(torch.cat(list(parts), dim=2), moments=moments)
        encoded = self._model.encode_parts(part.to(self.device) for part in parts)
        return torch.cat([self._normalized(one, moments) for one in encoded], dim=2)

    @torch.inference_mode()
    def decode(self, latent: Tensor) -> Tensor:
        raw = self.raw(latent)
        decode = partial(self._model.decode, chunk=self._chunk)
        stride = self.spatial_stride
        if self._tile_px is not None and self._is_tiled([side * stride for side in latent.shape[-2:]]):
            video = tiled(decode, raw[None], tile=self._tile_px // stride, multiple=1, scale=(stride, 1))
        else:
            video = decode(raw[None])
        return video.clamp(-1.0, 1.0).cpu()

    def _encode_batch(self, videos: Tensor, *, moments: bool = False) -> Tensor:
        if self._is_tiled(videos.shape[-2:]):
            return self._encode_tiles(videos, moments)
        return self._normalized(self._model.encode(videos.to(self.device), chunk=self._chunk), moments)

    def _encode_tiles(self, videos: Tensor, moments: bool) -> Tensor:
        assert self._tile_px is not None
        encoded = tiled(
            lambda tile: self._model.encode(tile.to(self.device), chunk=self._chunk),
            videos,
            tile=self._tile_px,
            multiple=self.spatial_stride,
            scale=(1, self.spatial_stride),
        )
        return self._normalized(encoded.to(self.device), moments)

    def _is_tiled(self, sides_px: Iterable[int]) -> bool:
        return self._tile_px is not None and max(sides_px) > self._tile_px

    def _normalized(self, encoded: Tensor, moments: bool) -> Tensor:
        """(B, num_inputs, T', H', W') of the encoder to (B, C, T', H', W'), of `moments` to (B, 2 C, T', H', W')."""
        if not moments:
            return ((self._model.bottleneck.latent(encoded) - self._mean) / self._std).cpu()
        mean, logvar = self._model.bottleneck.posterior(encoded)
        return torch.cat([(mean - self._mean) / self._std, logvar - 2 * self._std.log()], dim=1).cpu()

    def raw(self, latent: Tensor) -> Tensor:
        """(…, C, T, H, W), normalized, to what the network's decoder takes."""
        return latent.to(self.device, torch.float32) * self._std + self._mean

    @property
    def model(self) -> CausalVideoAutoencoder:
        return self._model


def weights_of(path: str | None) -> Path:
    """The folder of a setting: null and `embedded` are the embedded KL, `embedded-fsq` is the embedded FSQ."""
    return EMBEDDED.get(path or "embedded") or Path(str(path))


class _Codes:
    """The codes of a bottleneck, as normalized latents."""

    def __init__(self, num_codes: int, bottleneck: Bottleneck, mean: Tensor, std: Tensor) -> None:
        self.num_codes, self._bottleneck, self._mean, self._std = num_codes, bottleneck, mean, std

    @torch.inference_mode()
    def ids(self, latent: Tensor) -> Tensor:
        raw = latent.to(self._std.device, torch.float32) * self._std + self._mean
        return self._bottleneck.ids(raw[None])[0].cpu()

    def vectors(self, ids: Tensor) -> Tensor:
        return look_up(ids, self.tables()).movedim(-1, 0)

    @torch.inference_mode()
    def tables(self) -> tuple[Tensor, ...]:
        tables = self._bottleneck.tables()
        widths = [table.shape[1] for table in tables]
        statistics = zip(*(values.flatten().split(widths) for values in (self._mean, self._std)), strict=True)
        return tuple(((table - mean) / std).cpu() for table, (mean, std) in zip(tables, statistics, strict=True))
