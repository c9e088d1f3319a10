"""Is an image alone the first frame, is a beginning alone the beginning, are chunks and tiles the whole? Differences
of latents and pixels: of the embedded autoencoder, and of a class of diffusers with random weights."""

import tempfile
from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch

from curate.encoders.torchvision_cpu import repair
from curate.media.frames import iter_frames
from pipelines.demo.inputs import MEDIA
from train.autoencoder.base import VideoAutoencoder
from train.autoencoder.config import DiffusersAutoencoderConfig, ReelpackConfig
from train.autoencoder.evaluate import psnr
from train.autoencoder.pixels import decode_latent, to_video

WAN = "AutoencoderKLWan with random weights"
NUM_FRAMES, BEGINNING = 33, 9
SMALL_PX = (80, 128)
SIDES_PX = (512, 1024)
TILE_PX = 256
"""Of the embedded one; diffusers' classes have sizes of their own."""


def show_equalities() -> None:
    import cv2

    film = [frame.rgb for frame in islice(iter_frames(str(MEDIA / "bbb_a.mp4"), short_side_px=720), NUM_FRAMES)]

    def resized(height: int, width: int, count: int) -> np.ndarray:
        return np.stack([cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA) for rgb in film[:count]])

    with tempfile.TemporaryDirectory() as folder:
        wan = random_wan(folder)
        own = ReelpackConfig(device="cpu", chunk_latent_frames=NUM_FRAMES)
        chunks, tiles = (own.model_copy(update=one) for one in ({"chunk_latent_frames": 2}, {"tile_px": TILE_PX}))
        video = resized(*SMALL_PX, NUM_FRAMES)
        for name, whole in (("embedded", own.build()), (WAN, wan.build())):
            print(f"{name}: largest differences of {NUM_FRAMES} frames of {SMALL_PX[1]}x{SMALL_PX[0]} px")
            for line in in_time(whole, video):
                print(f"  {line}")
        latent = own.build().encode(to_video(video))
        print(f"  embedded in chunks of 2 latent frames: {largest(chunks.build().encode(to_video(video)), latent)}")
        pairs = [("embedded", side, own.build(), tiles.build()) for side in SIDES_PX]
        pairs.append((WAN, SIDES_PX[0], wan.build(), wan.model_copy(update={"tiling": True}).build()))
        for name, side, at_once, in_parts in pairs:
            print(f"{name}, 5 frames of {side}x{side} px: {in_tiles(at_once, in_parts, resized(side, side, 5))}")


def random_wan(folder: str) -> DiffusersAutoencoderConfig:
    repair()
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    AutoencoderKLWan(base_dim=8, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1).eval().save_pretrained(folder)
    return DiffusersAutoencoderConfig(path=folder, device="cpu")


def in_time(whole: VideoAutoencoder, rgb: np.ndarray) -> Iterator[str]:
    latent = whole.encode(to_video(rgb))
    image = whole.encode(to_video(rgb[:1]))
    yield f"image alone, first latent frame: {largest(image, latent[:, :1])}"
    shown = decode_latent(whole, latent).astype(np.int16)
    yield f"  decoded: {np.abs(decode_latent(whole, image) - shown[:1]).max()} of 255"
    beginning = whole.encode(to_video(rgb[:BEGINNING]))
    yield f"{BEGINNING} frames alone, first latent frames: {largest(beginning, latent[:, : beginning.shape[1]])}"


def in_tiles(whole: VideoAutoencoder, tiled: VideoAutoencoder, rgb: np.ndarray) -> str:
    latent = whole.encode(to_video(rgb))
    at_once, parts = decode_latent(whole, latent), decode_latent(tiled, latent)
    of_tiles = decode_latent(tiled, tiled.encode(to_video(rgb)))
    difference = np.abs(at_once.astype(np.int16) - parts)
    return (
        f"PSNR to the source {psnr(rgb, at_once):.2f} dB whole, {psnr(rgb, parts):.2f} decoded in tiles, "
        f"{psnr(rgb, of_tiles):.2f} encoded in tiles too; decoded pixels differ by {difference.mean():.3f} in the "
        f"mean, {difference.max()} at most, of 255"
    )


def largest(a: torch.Tensor, b: torch.Tensor) -> str:
    return f"{float((a - b).abs().max()):.2g}"
