"""The embedded autoencoder, and any other that `reelpack train-autoencoder` wrote, behind the trainer's interface."""

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor

from curate.device import pick_device, with_index
from train.autoencoder.bottlenecks.base import Bottleneck, look_up
from train.autoencoder.config import ReelpackConfig
from train.autoencoder.network import CausalVideoAutoencoder
from train.autoencoder.pixels import in_unit_range
from train.autoencoder.tiles import tiled
from train.autoencoder.weights_folder import load

EMBEDDED_WEIGHTS = Path(__file__).parent / "weights"
EMBEDDED = {"embedded": EMBEDDED_WEIGHTS, "embedded-fsq": EMBEDDED_WEIGHTS.with_name("weights_fsq")}
"""Folders of the embedded weights, by the names that stand for them."""
LARGEST_KEPT_BYTES = 31 << 20
"""Glibc keeps no block of 32 MiB."""


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
        if self.device.type == "cpu":
            keep_freed_memory()
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

    def encode(self, video: Tensor) -> Tensor:
        return self.encode_parts(self._model.parts(video, self._chunk))[0]

    @torch.inference_mode()
    def encode_parts(self, parts: Iterable[Tensor], *, moments: bool = False) -> Tensor:
        parts = iter(parts)
        first = next(parts)
        parts = chain([first], parts)
        if not self._is_tiled(first.shape[-2:]):
            return torch.cat([self._normalized(one, moments).cpu() for one in self._encoded(parts)], dim=2)
        assert self._tile_px is not None
        held = list(parts)  # a tile has all frames
        encoded = tiled(
            lambda place: torch.cat(list(self._encoded(part[place] for part in held)), dim=2),
            first.shape[-2:],
            tile=self._tile_px,
            multiple=self.spatial_stride,
            scale=(1, self.spatial_stride),
        )
        return self._normalized(encoded.to(self.device), moments).cpu()

    @torch.inference_mode()
    def decode(self, latent: Tensor) -> Tensor:
        raw = self.raw(latent)[None]
        decode = partial(self._model.decode, chunk=self._chunk)
        stride = self.spatial_stride
        if self._tile_px is not None and self._is_tiled([side * stride for side in latent.shape[-2:]]):
            tile = self._tile_px // stride
            video = tiled(lambda place: decode(raw[place]), raw.shape[-2:], tile=tile, multiple=1, scale=(stride, 1))
        else:
            video = decode(raw)
        return video.clamp(-1.0, 1.0).cpu()

    def _encoded(self, parts: Iterable[Tensor]) -> Iterator[Tensor]:
        """What the bottleneck reads of each part."""
        return self._model.encode_parts(in_unit_range(part.to(self.device)) for part in parts)

    def _is_tiled(self, sides_px: Iterable[int]) -> bool:
        return self._tile_px is not None and max(sides_px) > self._tile_px

    def _normalized(self, encoded: Tensor, moments: bool) -> Tensor:
        """(B, num_inputs, T', H', W') of the encoder to (B, C, T', H', W'), of `moments` to (B, 2 C, T', H', W')."""
        if not moments:
            return (self._model.bottleneck.latent(encoded) - self._mean) / self._std
        mean, logvar = self._model.bottleneck.posterior(encoded)
        return torch.cat([(mean - self._mean) / self._std, logvar - 2 * self._std.log()], dim=1)

    def raw(self, latent: Tensor) -> Tensor:
        """(…, C, T, H, W), normalized, to what the network's decoder takes."""
        return latent.to(self.device, torch.float32) * self._std + self._mean

    @property
    def model(self) -> CausalVideoAutoencoder:
        return self._model


def weights_of(path: str | None) -> Path:
    """The folder of a setting: null and `embedded` are the embedded KL, `embedded-fsq` is the embedded FSQ."""
    return EMBEDDED.get(path or "embedded") or Path(str(path))


def keep_freed_memory() -> None:
    """Free a block, after which glibc gives blocks up to this size back to the system no more: activations that fault
    in page by page take a tenth of the time of encoding. It keeps up to twice the block (`man mallopt`,
    M_MMAP_THRESHOLD); other C libraries do as before."""
    torch.empty(LARGEST_KEPT_BYTES, dtype=torch.uint8)


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
