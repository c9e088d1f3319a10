"""The embedded autoencoder, and any other that `reelpack train-autoencoder` wrote, behind the trainer's interface."""

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from curate.device import pick_device, with_index
from train.autoencoder.config import ReelpackKLConfig
from train.autoencoder.kl import CausalVideoKL
from train.autoencoder.weights_folder import load

EMBEDDED_WEIGHTS = Path(__file__).parent / "weights"


class ReelpackKLAutoencoder:
    """Posterior means, normalized per channel. Computes in float32."""

    temporal_stride = CausalVideoKL.temporal_stride
    spatial_stride = CausalVideoKL.spatial_stride
    is_causal = True

    def __init__(self, config: ReelpackKLConfig, device: torch.device | None = None) -> None:
        """Loads the weights.

        Raises:
            ValueError: The folder lacks weights, their configuration or the latents' statistics.
        """
        folder = EMBEDDED_WEIGHTS if config.path is None else Path(config.path)
        model, self.fingerprint = load(folder)
        if model.config.latent_mean is None or model.config.latent_std is None:
            raise ValueError(
                f"{folder}: the configuration has no latent_mean and latent_std; finish the training first"
            )
        self.name = "reelpack_kl"
        self.channels = model.config.latent_channels
        self.device = with_index(pick_device(config.device, setting="encode.autoencoder.device", worker=device))
        self._chunk = config.chunk_latent_frames
        self.part_frames: int | None = self.temporal_stride * config.chunk_latent_frames
        self._model = model.to(self.device)
        self._mean = torch.tensor(model.config.latent_mean, device=self.device).view(-1, 1, 1, 1)
        self._std = torch.tensor(model.config.latent_std, device=self.device).view(-1, 1, 1, 1)

    @torch.inference_mode()
    def encode(self, video: Tensor) -> Tensor:
        mean, _ = self._model.encode(video.to(self.device), chunk=self._chunk)
        return self._normalized(mean)

    @torch.inference_mode()
    def encode_parts(self, parts: Iterable[Tensor]) -> Tensor:
        coded = self._model.encode_parts(part.to(self.device) for part in parts)
        return torch.cat([self._normalized(mean) for mean, _ in coded], dim=1)

    def _normalized(self, mean: Tensor) -> Tensor:
        return ((mean[0] - self._mean) / self._std).cpu()

    @torch.inference_mode()
    def decode(self, latent: Tensor) -> Tensor:
        raw = latent.to(self.device, torch.float32) * self._std + self._mean
        return self._model.decode(raw[None], chunk=self._chunk).clamp(-1.0, 1.0).cpu()
