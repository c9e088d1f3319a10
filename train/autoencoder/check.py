"""Is an autoencoder good on these clips? Reconstructions, latents, codes, speed: several autoencoders on equal frames.

What is measured is what `encode` stores: latents go through float16. Latents suit diffusion where their values are
about standard normal; far outliers, and channels without information, cost capacity of the model.
"""

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from curate.schema import Failure, FailureKind
from train.autoencoder.base import VideoAutoencoder, usable_frames
from train.autoencoder.bottlenecks.base import usage
from train.autoencoder.evaluate import psnr, ssim
from train.autoencoder.peak_memory import PeakMemory
from train.autoencoder.perceptual.judges import Judgement, Judges
from train.autoencoder.pixels import to_video
from train.autoencoder.sizes import target_size
from train.autoencoder.stored import unfit

STEP = "autoencoder_check"
OUTLIER = 5.0
"""Of a normalized latent: a normal distribution has one value in 1.7 million beyond it."""
STORED_BITS = 16
"""Of a latent's value."""
CPU_MEMORY = "DefaultCPUAllocator"
"""In torch's message where the memory of the machine is not enough; for a GPU it has a class."""
ERROR_GAIN = 4
"""Errors are shown as many times as large."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipQuality:
    """A reconstruction.

    Attributes:
        name: Of the clip.
        num_frames: That the autoencoder took.
        psnr_db: Over all values.
        ssim: Mean over the frames.
        flicker: Mean absolute error of the changes from frame to frame, of 255; None for an image.
        distances: Of frames, by the name of what measured them.
    """

    name: str
    num_frames: int
    psnr_db: float
    ssim: float
    flicker: float | None
    distances: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """An autoencoder on all clips.

    Attributes:
        name: Of the autoencoder.
        channels, temporal_stride, spatial_stride: Of its latents.
        clips: The worst first, by PSNR.
        failures: Clips that it could not be measured on, which no figure counts.
        bits_per_pixel: That latents are stored in; of codes, by their number.
        channel_mean, channel_std, channel_kurtosis: Per channel; kurtosis is 0 for a normal distribution.
        outliers: Share of the latents' values beyond `OUTLIER`; None, as all figures, where every clip failed.
        posterior_std: Mean deviation of a latent value, of the autoencoder's Gaussian; None where it gives none.
        code_usage, perplexity: Of codes; None where latents are continuous.
        encoded_per_s, decoded_per_s: Frames per second.
        memory_bytes: Peak over encoding and decoding beyond weights and clips, of the GPU or of the process; None
            where the system does not tell.
        rfvd: Fréchet distances of sources and reconstructions, and the numbers of clips that they are of, by name.
    """

    name: str
    channels: int
    temporal_stride: int
    spatial_stride: int
    clips: tuple[ClipQuality, ...]
    failures: tuple[Failure, ...]
    bits_per_pixel: float | None
    channel_mean: tuple[float, ...]
    channel_std: tuple[float, ...]
    channel_kurtosis: tuple[float, ...]
    outliers: float | None
    posterior_std: float | None
    code_usage: float | None
    perplexity: float | None
    encoded_per_s: float | None
    decoded_per_s: float | None
    memory_bytes: int | None
    rfvd: Mapping[str, float] = field(default_factory=dict)

    def mean(self, figure: str) -> float | None:
        """Of a figure of `ClipQuality`, or a distance by its name, over the clips that have it."""
        found = (clip.distances.get(figure, getattr(clip, figure, None)) for clip in self.clips)
        values = [value for value in found if value is not None]
        return float(np.mean(values)) if values else None


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckedClip:
    """Frames (T, H, W, 3) uint8 by name."""

    name: str
    rgb: np.ndarray


def check(
    autoencoder: VideoAutoencoder, clips: Iterable[CheckedClip], *, multiple_px: int, judges: Judges | None = None
) -> Check:
    """Encode and decode each clip, trimmed to the frames and resized to the sides that the autoencoder takes.

    Args:
        autoencoder: as `encode` loads it.
        clips: at least one.
        multiple_px: of which the sides are; a common multiple of the strides of all autoencoders that are compared.
        judges: networks that compare reconstructions with sources.
    """
    qualities: list[ClipQuality] = []
    failures: list[Failure] = []
    moments = _Moments(autoencoder.channels)
    bits = pixels = 0.0
    spent = {"encode": 0.0, "decode": 0.0}
    num_frames = 0
    codes: list[Tensor] = []
    deviations = 0.0
    judgement = Judgement(judges or Judges())
    memory: list[int] = []
    for clip in clips:
        rgb = fitted(clip.rgb, autoencoder, multiple_px)
        peak = PeakMemory(autoencoder.device)
        start = time.perf_counter()
        try:
            with peak:
                latent, deviation = _encoded(autoencoder, to_video(rgb))
                between = time.perf_counter()
                decoded = _reconstruction(autoencoder, latent)
            now = time.perf_counter()
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if type(error) is RuntimeError and CPU_MEMORY not in str(error):
                raise
            detail = (
                f"{len(rgb)} frames of {rgb.shape[2]}x{rgb.shape[1]} do not fit into memory ({_first_line(error)})"
            )
            failures.append(_failure(clip.name, detail))
            continue
        except _NotFinite as error:
            failures.append(_failure(clip.name, str(error)))
            continue
        latent = latent.half()
        spent["encode"] += between - start
        spent["decode"] += now - between
        memory += [] if peak.bytes is None else [peak.bytes]
        qualities.append(replace(quality(clip.name, rgb, decoded), distances=judgement.add(rgb, decoded)))
        moments.add(latent)
        if autoencoder.codebook is None:
            bits += latent.numel() * STORED_BITS
        else:
            codes.append(autoencoder.codebook.ids(latent.float()).flatten())
            bits += codes[-1].numel() * math.log2(autoencoder.codebook.num_codes)
        pixels += rgb.shape[0] * rgb.shape[1] * rgb.shape[2]
        num_frames += len(rgb)
        deviations += deviation * len(rgb)
    used = usage(torch.cat(codes), autoencoder.codebook.num_codes) if autoencoder.codebook and codes else {}
    mean, std, kurtosis = moments.summary() if qualities else ((), (), ())
    return Check(
        name=autoencoder.name,
        channels=autoencoder.channels,
        temporal_stride=autoencoder.temporal_stride,
        spatial_stride=autoencoder.spatial_stride,
        clips=tuple(sorted(qualities, key=lambda one: one.psnr_db)),
        failures=tuple(failures),
        bits_per_pixel=bits / pixels if qualities else None,
        channel_mean=mean,
        channel_std=std,
        channel_kurtosis=kurtosis,
        outliers=moments.outliers if qualities else None,
        posterior_std=deviations / num_frames if autoencoder.has_posterior and qualities else None,
        code_usage=float(used["code_usage"]) if used else None,
        perplexity=float(used["perplexity"]) if used else None,
        encoded_per_s=num_frames / spent["encode"] if qualities else None,
        decoded_per_s=num_frames / spent["decode"] if qualities else None,
        memory_bytes=max(memory) if memory else None,
        rfvd=judgement.frechet(),
    )


def _encoded(autoencoder: VideoAutoencoder, video: Tensor) -> tuple[Tensor, float]:
    """The latent of (1, 3, T, H, W), and the mean deviation of its posterior; 0 where there is none."""
    if not autoencoder.has_posterior:
        return autoencoder.encode(video), 0.0
    part = autoencoder.part_frames or video.shape[2]
    first = 1 + part - autoencoder.temporal_stride if autoencoder.part_frames else part
    parts = [video[:, :, :first], *(video[:, :, i : i + part] for i in range(first, video.shape[2], part))]
    [mean], [logvar] = autoencoder.encode_parts(parts, moments=True).chunk(2, dim=1)
    return mean, float((0.5 * logvar).exp().mean())


class _NotFinite(Exception):
    """A latent or a reconstruction holds what cannot be stored or shown."""


def _reconstruction(autoencoder: VideoAutoencoder, latent: Tensor) -> np.ndarray:
    """(C, T', H', W') float32 as it is stored, decoded: (T, H, W, 3) uint8."""
    if problem := unfit(latent):
        raise _NotFinite(f"the encoder gave {problem}")
    out = autoencoder.decode(latent.half().float())[0]
    if not out.isfinite().all():
        raise _NotFinite("the decoder gave values that are not finite")
    return ((out.permute(1, 2, 3, 0) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()


def _failure(clip: str, detail: str) -> Failure:
    return Failure(subject=clip, step=STEP, kind=FailureKind.MODEL, detail=detail)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def fitted(rgb: np.ndarray, autoencoder: VideoAutoencoder, multiple_px: int) -> np.ndarray:
    """The first frames of (T, H, W, 3) uint8 that the autoencoder takes, with sides that are multiples."""
    import cv2

    rgb = rgb[: usable_frames(len(rgb), autoencoder.temporal_stride)]
    height, width = target_size(*rgb.shape[1:3], max_area_px=rgb.shape[1] * rgb.shape[2], multiple_px=multiple_px)
    if (height, width) == rgb.shape[1:3]:
        return rgb
    return np.stack([cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA) for frame in rgb])


def quality(name: str, source: np.ndarray, decoded: np.ndarray) -> ClipQuality:
    """Of two (T, H, W, 3) uint8."""
    flicker = None
    if len(source) > 1:
        changes = np.diff(decoded.astype(np.int16), axis=0) - np.diff(source.astype(np.int16), axis=0)
        flicker = float(np.abs(changes).mean())
    return ClipQuality(
        name=name, num_frames=len(source), psnr_db=psnr(source, decoded), ssim=ssim(source, decoded), flicker=flicker
    )


def comparison(autoencoders: Sequence[VideoAutoencoder], clip: CheckedClip, multiple_px: int) -> Iterator[np.ndarray]:
    """Frames (H, W · (1 + 2 n), 3) uint8 to look at: the source, then a reconstruction and its error for each of n."""
    sources = [fitted(clip.rgb, one, multiple_px) for one in autoencoders]
    count = min(map(len, sources))
    panels = [sources[0][:count]]
    for autoencoder, rgb in zip(autoencoders, sources, strict=True):
        decoded = _reconstruction(autoencoder, autoencoder.encode(to_video(rgb)))[:count]
        error = (ERROR_GAIN * np.abs(rgb[:count].astype(np.int16) - decoded)).clip(0, 255).astype(np.uint8)
        panels += [decoded, error]
    for frames in zip(*panels, strict=True):
        yield np.concatenate(frames, axis=1)


class _Moments:
    """Sums of the first four powers of latents, per channel."""

    def __init__(self, channels: int) -> None:
        self._count = 0
        self._sums = torch.zeros(4, channels, dtype=torch.float64)
        self._num_far = 0

    def add(self, latent: Tensor) -> None:
        """(C, T, H, W)."""
        values = latent.double().flatten(1)
        self._count += values.shape[1]
        self._sums += torch.stack([values.pow(power).sum(1) for power in (1, 2, 3, 4)])
        self._num_far += int((values.abs() > OUTLIER).sum())

    @property
    def outliers(self) -> float:
        return self._num_far / (self._count * self._sums.shape[1])

    def summary(self) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
        """Mean, standard deviation and excess kurtosis of each channel."""
        first, second, third, fourth = self._sums / self._count
        variance = (second - first.square()).clamp(min=1e-12)
        central = fourth - 4 * first * third + 6 * first.square() * second - 3 * first.pow(4)
        kurtosis = central / variance.square() - 3
        return tuple(first.tolist()), tuple(variance.sqrt().tolist()), tuple(kurtosis.tolist())
