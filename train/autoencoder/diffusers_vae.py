"""Autoencoders of diffusers: of videos (Wan, HunyuanVideo, CogVideoX) and, frame by frame, of images (SD, FLUX)."""

import inspect
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from curate.device import pick_device, with_index
from train.autoencoder.base import Codebook
from train.autoencoder.config import DiffusersAutoencoderConfig
from train.autoencoder.diffusers_folder import fingerprint_of, load, local_folder
from train.autoencoder.pixels import in_unit_range

PROBE_FRAMES = 25
PROBE_PX = 64
"""A clip of this size is encoded once to learn the strides: 24 is a multiple of every temporal stride in use."""

CAUSAL_TOLERANCE = 0.01
"""Of the latents' deviation."""


class DiffusersAutoencoder:
    """Posterior modes, normalized as the pipelines do: (z - shift or mean) * scaling_factor / std."""

    codebook: Codebook | None = None
    part_frames: int | None = None  # what they keep of earlier frames is their own

    def __init__(self, config: DiffusersAutoencoderConfig, device: torch.device | None = None) -> None:
        """Loads the weights.

        Raises:
            ValueError: No such folder or hub id, or its config names no autoencoder class of diffusers.
        """
        folder = self.folder = local_folder(config)
        self.name = config.path if config.subfolder is None else f"{config.path}/{config.subfolder}"
        self.device = with_index(pick_device(config.device, setting="encode.autoencoder.device", worker=device))
        self._dtype: torch.dtype = getattr(torch, config.dtype)
        model = load(folder, self.name, self._dtype).to(self.device)
        self._is_tiling = config.tiling
        if config.tiling:
            model.enable_tiling()
        self._model = model
        encoder = getattr(model, "encoder", model)  # SVD's has frames alone, and its decoder time as well
        self._is_video = any(isinstance(module, nn.Conv3d) for module in encoder.modules())
        # FLUX.2's pipeline normalizes patches of its latents, by the statistics of a layer that is called `bn`.
        self._patch: int = model.config.patch_size[0] if hasattr(model, "bn") else 1
        self._counts_frames = "num_frames" in inspect.signature(model.decode).parameters
        self.fingerprint = fingerprint_of(folder, config)
        self._measure_strides()
        self._takes_batches = self._measure_batches()
        self._shift, self._scale = self._normalization()

    @torch.inference_mode()
    def encode(self, video: Tensor) -> Tensor:
        return self._encode_batch(video)[0]

    @torch.inference_mode()
    def encode_parts(self, parts: Iterable[Tensor], *, moments: bool = False) -> Tensor:
        parts = list(parts)
        videos = parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)  # one is not copied
        return self._encode_batch(videos, moments=moments)

    @torch.inference_mode()
    def decode(self, latent: Tensor) -> Tensor:
        raw = self.raw(latent)
        batch = raw[None] if self._is_video else raw.transpose(0, 1)  # (1, C, T', H', W') or (T', C, H', W')
        given = {"num_frames": len(batch)} if self._counts_frames else {}
        out = self._model.decode(batch.to(self._dtype), **given).sample.float()
        video = out if self._is_video else out.transpose(0, 1)[None]
        # CogVideoX gives the first frame four times where the number of latent frames is even.
        video = video[:, :, -(1 + self.temporal_stride * (latent.shape[1] - 1)) :]
        return video.clamp(-1.0, 1.0).cpu()

    def _encode_batch(self, videos: Tensor, *, moments: bool = False) -> Tensor:
        batches = [videos] if self._takes_batches else videos.split(1)
        raw = torch.cat([self._encode_raw(batch, moments=moments) for batch in batches])
        mean, *logvars = raw.split(self.channels, dim=1)
        logvars = [logvar + 2 * self._scale.abs().log() for logvar in logvars]
        return torch.cat([(mean - self._shift) * self._scale, *logvars], dim=1).cpu()

    def _encode_raw(self, videos: Tensor, *, moments: bool = False) -> Tensor:
        """(B, 3, T, H, W) to (B, C, T', H', W') float32, not normalized; with the logarithm of the variance after the
        mean, (B, 2 C, T', H', W')."""
        out = self._output(videos)
        if moments:
            latent = torch.cat([out.latent_dist.mean, out.latent_dist.logvar], dim=1)
        elif hasattr(out, "latent_dist"):
            latent = out.latent_dist.mode()
        else:  # those without a posterior
            latent = out.latents if hasattr(out, "latents") else out.latent
        latent = functional.pixel_unshuffle(latent, self._patch) if self._patch > 1 else latent
        return (latent if self._is_video else latent.unflatten(0, (len(videos), -1)).transpose(1, 2)).float()

    def _output(self, videos: Tensor) -> Any:
        videos = in_unit_range(videos.to(self.device)).to(self._dtype)
        return self._model.encode(videos if self._is_video else videos.transpose(1, 2).flatten(0, 1))

    @torch.inference_mode()
    def _measure_strides(self) -> None:
        """By encoding, because every class of diffusers spells its strides differently.

        Raises:
            ValueError: It does not code `1 + k · stride` frames as `1 + k`, or one frame as one.
        """
        frames = PROBE_FRAMES if self._is_video else 1
        try:
            _, c, t, h, _ = self._encode_raw(torch.zeros(1, 3, frames, PROBE_PX, PROBE_PX)).shape
            alone = self._encode_raw(torch.zeros(1, 3, 1, PROBE_PX, PROBE_PX)).shape[2]
        except (NotImplementedError, RuntimeError) as error:
            tiles = "" if self._is_tiling else "; some classes need encode.autoencoder.tiling=true"
            raise ValueError(f"encode.autoencoder: {self.name} does not encode a video ({error}){tiles}") from error
        self.channels = c
        self.spatial_stride = PROBE_PX // h
        self.temporal_stride = (frames - 1) // (t - 1) if t > 1 else 1
        if alone != 1 or (t - 1) * self.temporal_stride != frames - 1:
            raise ValueError(
                f"encode.autoencoder: {self.name} codes {frames} frames as {t} and one frame as {alone}; expected an "
                "autoencoder whose first frame is a latent frame of its own (1 + k frames of 1 + k · stride)"
            )

    @torch.inference_mode()
    def _measure_batches(self) -> bool:
        """Whether it encodes several videos together: the attention mask of HunyuanVideo 1.5 has the shape of one."""
        try:
            self._encode_raw(torch.zeros(2, 3, 1, PROBE_PX, PROBE_PX))
        except RuntimeError:
            return False
        return True

    @cached_property
    @torch.inference_mode()
    def has_posterior(self) -> bool:
        """Cosmos has a `latent_dist` that is no Gaussian, KVAE's one of a variance that was not learned; Sana and Tiny
        have none."""
        out = self._output(torch.zeros(1, 3, 1, PROBE_PX, PROBE_PX))
        logvar: Tensor | None = getattr(getattr(out, "latent_dist", None), "logvar", None)
        return logvar is not None and bool(logvar.any())

    @cached_property
    @torch.inference_mode()
    def is_causal(self) -> bool:
        """Measured by changing later frames: CogVideoX and Hunyuan normalize over time. Where nothing of them is seen,
        latents differ by rounding at most."""
        if not self._is_video:
            return True
        generator = torch.Generator().manual_seed(0)
        shape = (1, 3, PROBE_FRAMES, PROBE_PX, PROBE_PX)
        video = torch.rand(shape, generator=generator) * 2 - 1
        latent = self._encode_raw(video)
        for num_same in (1, 1 + self.temporal_stride):
            other = video.clone()
            other[:, :, num_same:] *= 0.1
            same = slice(0, 1 + (num_same - 1) // self.temporal_stride)
            difference = (self._encode_raw(other)[:, :, same] - latent[:, :, same]).abs().max()
            if difference > CAUSAL_TOLERANCE * latent.std():
                return False
        return True

    def raw(self, latent: Tensor) -> Tensor:
        """(…, C, T, H, W), normalized, to what the model decodes."""
        raw = latent.to(self.device, torch.float32) / self._scale + self._shift
        if self._patch > 1:
            raw = functional.pixel_shuffle(raw.transpose(-4, -3), self._patch).transpose(-4, -3)
        return raw

    @property
    def model(self) -> Any:
        return self._model

    @property
    def dtype(self) -> torch.dtype:
        return self._dtype

    @property
    def decodes_videos(self) -> bool:
        """Whether a frame is decoded together with others."""
        return self._is_video or self._counts_frames

    def _normalization(self) -> tuple[Tensor, Tensor]:
        config = self._model.config
        if self._patch > 1:
            bn = self._model.bn
            return self._per_channel(bn.running_mean), self._per_channel((bn.running_var + bn.eps).rsqrt())
        factor = config.get("scaling_factor") or 1.0
        mean, std = (self._statistic(name) for name in ("latents_mean", "latents_std"))
        if mean is None:
            mean = torch.full((1,), config.get("shift_factor") or 0.0)
        scale = torch.full((1,), factor) if std is None else factor / std
        return self._per_channel(mean), self._per_channel(scale)

    def _per_channel(self, values: Tensor) -> Tensor:
        return values.float().to(self.device).view(-1, 1, 1, 1)

    def _statistic(self, name: str) -> Tensor | None:
        """Per channel; some classes keep it in their configuration, some among the weights."""
        value = self._model.config.get(name)
        if value is None:
            value = dict(self._model.named_buffers()).get(name)
        return None if value is None else torch.as_tensor(value)
