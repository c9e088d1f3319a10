"""The committed weights, on footage they were not trained on."""

from pathlib import Path

import numpy as np
import pytest
import torch

from curate.media.decode import decode_clip
from train.autoencoder.config import ReelpackConfig
from train.autoencoder.evaluate import dct_kept, evaluate, psnr, resized, round_trip
from train.autoencoder.own import ReelpackAutoencoder
from train.autoencoder.pixels import decode_latent, to_video

EXCERPTS = Path(__file__).parents[3] / "pipelines" / "demo" / "media"


@pytest.fixture(scope="module")
def autoencoder() -> ReelpackAutoencoder:
    return ReelpackConfig(device="cpu").build()


@pytest.fixture(scope="module")
def excerpts() -> list[np.ndarray]:
    """Clips of 33 frames at 12 fps, 128 x 80, of the film's parts that were held out of training; cuts included."""
    rgb = np.concatenate(
        [
            decode_clip((EXCERPTS / name).read_bytes(), fps=12, size=(80, 128)).rgb
            for name in ("bbb_a.mp4", "bbb_b.mp4")
        ]
    )
    return [rgb[start : start + 33] for start in range(0, len(rgb) - 33, 165)]


def test_video_comes_back(autoencoder, excerpts) -> None:
    quality = evaluate(excerpts, round_trip(autoencoder))
    assert quality.psnr_db > 25.8
    assert quality.ssim > 0.82
    assert quality.psnr_db > evaluate(excerpts, dct_kept(16, excerpts)).psnr_db + 1.0
    assert quality.psnr_db > evaluate(excerpts, resized(16)).psnr_db + 3.0


def test_images_come_back(autoencoder, excerpts) -> None:
    quality = evaluate([clip[:1] for clip in excerpts], round_trip(autoencoder))
    assert quality.psnr_db > 27.5


def test_latents_are_about_standard(autoencoder, excerpts) -> None:
    latents = torch.cat([autoencoder.encode(to_video(clip)).flatten(1) for clip in excerpts], dim=1)
    assert abs(latents.mean()) < 0.2
    assert 0.7 < latents.std() < 1.4
    assert (latents.std(dim=1) > 0.3).all()
    assert latents.abs().max() < 30


@pytest.mark.parametrize("color", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)])
@pytest.mark.parametrize("frames", [1, 5])
def test_colors_stay(autoencoder, color, frames) -> None:
    clip = np.broadcast_to(np.array(color, np.uint8), (frames, 48, 64, 3)).copy()
    out = round_trip(autoencoder)(clip)
    assert np.abs(out.mean(axis=(0, 1, 2)) - color).max() < 25


def test_directions_stay(autoencoder) -> None:
    """Brightest top left, then dark: rows, columns and time come back where they were."""
    clip = np.full((9, 48, 64, 3), 60, np.uint8)
    clip[:5, :16, :24] = 230
    out = round_trip(autoencoder)(clip).astype(np.float64)
    assert out[0, 2:14, 2:22].mean() > 190
    assert out[0, 20:].mean() < 90
    assert out[0, :, 30:].mean() < 90
    assert out[8].mean() < 90


def test_a_still_shot_does_not_flicker(autoencoder, excerpts) -> None:
    still = np.repeat(excerpts[0][:1], 17, axis=0)
    out = round_trip(autoencoder)(still).astype(np.float64)
    assert np.abs(np.diff(out, axis=0)).mean() < 2.5  # of 255


def test_motion_moves(autoencoder, excerpts) -> None:
    """What changes between frames changes after decoding too: closer than the clip frozen at its first frame."""
    clip = max(excerpts, key=lambda c: np.abs(np.diff(c.astype(float), axis=0)).mean())
    frozen = np.repeat(clip[:1], len(clip), axis=0)
    assert psnr(clip, round_trip(autoencoder)(clip)) > psnr(clip, frozen) + 6.0


def test_chunks_change_no_pixel_by_more_than_rounding(excerpts) -> None:
    whole = ReelpackConfig(device="cpu", chunk_latent_frames=100).build()
    parts = ReelpackConfig(device="cpu", chunk_latent_frames=2).build()
    latent = whole.encode(to_video(excerpts[0]))
    torch.testing.assert_close(parts.encode(to_video(excerpts[0])), latent, rtol=1e-3, atol=1e-3)
    difference = decode_latent(whole, latent).astype(int) - decode_latent(parts, latent)
    assert np.abs(difference).max() <= 1


def test_tiles_are_near_the_whole_and_bound_what_is_computed(square_clip: np.ndarray) -> None:
    rgb = square_clip[:5].repeat(3, 1).repeat(3, 2)
    video = to_video(rgb)
    whole, tiled = (ReelpackConfig(device="cpu", tile_px=tile).build() for tile in (None, 96))
    latent = whole.encode(video)
    largest: list[tuple[int, ...]] = []
    tiled.model.encoder.register_forward_pre_hook(lambda _, given: largest.append(given[0].shape[-2:]))
    in_tiles = tiled.encode(video)
    assert max(map(max, largest)) <= 96 and len(largest) > 4
    assert (in_tiles - latent).abs().mean() < 0.05
    difference = (tiled.decode(latent) - whole.decode(latent)).abs()
    assert difference.mean() < 0.01 and difference.max() < 0.5


def test_the_embedded_codes_come_back_from_their_ids(excerpts) -> None:
    coded = ReelpackConfig(path="embedded-fsq", device="cpu").build()
    assert coded.codebook is not None and coded.codebook.num_codes == 64_000
    latents = [coded.encode(to_video(clip)) for clip in excerpts]
    for latent in latents:
        torch.testing.assert_close(coded.codebook.vectors(coded.codebook.ids(latent)), latent, atol=1e-5, rtol=0)
    used = torch.cat([coded.codebook.ids(latent).flatten() for latent in latents]).unique()
    assert len(used) > 500
    assert evaluate(excerpts, round_trip(coded)).psnr_db > 21.5
