"""How well an autoencoder reconstructs videos, compared with codes of the same size without a network."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from train.autoencoder.base import VideoAutoencoder
from train.autoencoder.pixels import decode_latent, to_video

BLOCK = (4, 8, 8)
"""Frames, rows and columns of one latent position of the embedded autoencoder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Quality:
    """Means over clips; `worst_psnr_db` is the lowest of a clip."""

    psnr_db: float
    worst_psnr_db: float
    ssim: float
    num_clips: int


def evaluate(clips: Iterable[np.ndarray], reconstruct: Callable[[np.ndarray], np.ndarray]) -> Quality:
    """Quality of `reconstruct` over clips, both (T, H, W, 3) uint8."""
    pairs = [(clip, reconstruct(clip)) for clip in clips]
    values = [psnr(a, b) for a, b in pairs]
    return Quality(
        psnr_db=float(np.mean(values)),
        worst_psnr_db=min(values),
        ssim=float(np.mean([ssim(a, b) for a, b in pairs])),
        num_clips=len(pairs),
    )


def round_trip(autoencoder: VideoAutoencoder) -> Callable[[np.ndarray], np.ndarray]:
    """(T, H, W, 3) uint8 to the same shape: encode, store as float16, decode."""
    return lambda rgb: decode_latent(autoencoder, autoencoder.encode(to_video(rgb)).half())


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio over all values of two uint8 arrays of shape (T, H, W, 3); dB."""
    mse = float(np.square(a.astype(np.float64) - b).mean())
    return 10.0 * math.log10(255.0**2 / max(mse, 1e-10))


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Structural similarity of the luma of two (T, H, W, 3) uint8 arrays, mean over frames; at most 1.

    Wang et al. 2004: 11 x 11 Gaussian window, sigma 1.5.
    """
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    x, y = ((torch.from_numpy(v).double() @ weights)[:, None] for v in (a, b))
    taps = torch.exp(-(torch.arange(-5, 6, dtype=torch.float64) ** 2) / (2 * 1.5**2))
    window = torch.outer(taps, taps)[None, None] / taps.sum() ** 2

    def mean(v: Tensor) -> Tensor:
        return F.conv2d(v, window)

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    values = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return float(values.mean())


def resized(channels: int) -> Callable[[np.ndarray], np.ndarray]:
    """(T, H, W, 3) uint8 to the same shape: shrinks by area averaging to as many values as the latents have, and
    enlarges (tri)linearly."""

    def reconstruct(rgb: np.ndarray) -> np.ndarray:
        video = to_video(rgb)
        t, h, w = video.shape[2:]
        latent_values = channels * (1 + (t - 1) // BLOCK[0]) * (h // BLOCK[1]) * (w // BLOCK[2])
        ratio = 3 * t * h * w / latent_values
        in_time = 1.0 if t == 1 else min(3.0, ratio)  # in time and space about equal for video: 3 x 4 x 4
        side = math.sqrt(ratio / in_time)
        size = (round(t / in_time), round(h / side), round(w / side))
        small = F.interpolate(video, size=size, mode="area")
        return _to_rgb(F.interpolate(small, size=(t, h, w), mode="trilinear"))

    return reconstruct


def dct_kept(channels: int, statistics: Iterable[np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """(T, H, W, 3) uint8 to the same shape: keeps the `channels` DCT coefficients of a block with most energy over
    `statistics`.

    The first frame has blocks of its own, 1 x 8 x 8; those of the others are 4 x 8 x 8. The colors count together.
    """
    first, rest = torch.zeros(()), torch.zeros(())
    for rgb in statistics:
        video = to_video(rgb)
        first = first + _dct(video[:, :, :1], 1).square().sum(dim=0)
        if video.shape[2] > 1:
            rest = rest + _dct(video[:, :, 1:], BLOCK[0]).square().sum(dim=0)
    kept = {1: first.topk(channels).indices, BLOCK[0]: rest.topk(channels).indices if rest.ndim else None}

    def part(video: Tensor, frames: int) -> Tensor:
        coefficients = _dct(video, frames)
        mask = torch.zeros(coefficients.shape[1])
        mask[kept[frames]] = 1.0
        return _inverse_dct(coefficients * mask, video.shape, frames)

    def reconstruct(rgb: np.ndarray) -> np.ndarray:
        video = to_video(rgb)
        parts = [part(video[:, :, :1], 1)]
        if video.shape[2] > 1:
            parts.append(part(video[:, :, 1:], BLOCK[0]))
        return _to_rgb(torch.cat(parts, dim=2))

    return reconstruct


def _dct_matrix(n: int) -> Tensor:
    """Orthonormal DCT-II, (n, n)."""
    k, i = torch.arange(n)[:, None], torch.arange(n)[None]
    matrix = torch.cos(math.pi * (2 * i + 1) * k / (2 * n)) * math.sqrt(2 / n)
    matrix[0] /= math.sqrt(2)
    return matrix


# YCbCr made orthonormal: the coefficients' energies are then errors in RGB.
_COLOR = torch.linalg.qr(torch.tensor([[1.0, 1.0, 1.0], [-0.5, -0.5, 1.0], [1.0, -1.0, 0.0]]).T)[0].T


def _dct(video: Tensor, frames: int) -> Tensor:
    """(1, 3, T, H, W) -> (number of blocks, 3 * frames * 64)."""
    _, c, t, h, w = video.shape
    blocks = video[0].reshape(c, t // frames, frames, h // 8, 8, w // 8, 8)
    bases = (_COLOR, _dct_matrix(frames), _dct_matrix(8), _dct_matrix(8))
    return torch.einsum("ctfhywx,dc,gf,zy,vx->thwdgzv", blocks, *bases).reshape(-1, 3 * frames * 64)


def _inverse_dct(coefficients: Tensor, shape: torch.Size, frames: int) -> Tensor:
    _, c, t, h, w = shape
    blocks = coefficients.reshape(t // frames, h // 8, w // 8, c, frames, 8, 8)
    bases = (_COLOR, _dct_matrix(frames), _dct_matrix(8), _dct_matrix(8))
    return torch.einsum("thwdgzv,dc,gf,zy,vx->ctfhywx", blocks, *bases).reshape(1, c, t, h, w)


def _to_rgb(video: Tensor) -> np.ndarray:
    return ((video[0].permute(1, 2, 3, 0) + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()
