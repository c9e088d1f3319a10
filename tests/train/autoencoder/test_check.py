"""The check of an autoencoder: closed forms of its figures, the worst first, several on equal frames."""

import json
import mmap
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from tests.support.members.pixel_blocks import PixelBlocks
from tests.support.video_networks import write_i3d
from train.autoencoder.check import CheckedClip, check, comparison, fitted, quality
from train.autoencoder.config import ReelpackConfig
from train.autoencoder.evaluate import psnr
from train.autoencoder.network import CausalVideoAutoencoder
from train.autoencoder.network_config import NetworkConfig
from train.autoencoder.own import ReelpackAutoencoder
from train.autoencoder.peak_memory import PeakMemory
from train.autoencoder.perceptual.config import FeaturesConfig
from train.autoencoder.perceptual.judges import judges_of
from train.autoencoder.pixels import to_video
from train.autoencoder.weights_folder import save
from train.evaluate.video_features.config import I3DConfig

CPU = torch.device("cpu")


def clips() -> list[CheckedClip]:
    rng = np.random.default_rng(0)
    flat = np.full((5, 16, 24, 3), 90, np.uint8)
    blocks = rng.integers(0, 256, (1, 2, 3, 3), np.uint8).repeat(8, 1).repeat(8, 2).repeat(5, 0)
    noise = rng.integers(0, 256, (5, 16, 24, 3), np.uint8)
    return [CheckedClip(name=name, rgb=rgb) for name, rgb in (("flat", flat), ("noise", noise), ("blocks", blocks))]


def test_the_figures_of_an_autoencoder_that_is_known() -> None:
    found = check(PixelBlocks(CPU), clips(), multiple_px=8)
    assert found.clips[0].name == "noise"
    by_name = {clip.name: clip for clip in found.clips}
    assert by_name["flat"].psnr_db > 50 and by_name["blocks"].psnr_db > 50
    assert by_name["flat"].flicker == 0 and by_name["noise"].flicker > 20
    assert found.bits_per_pixel == pytest.approx(16 * 3 / 64)
    assert (found.channels, found.code_usage, found.perplexity, found.failures) == (3, None, None, ())
    assert found.mean("psnr_db") == pytest.approx(np.mean([clip.psnr_db for clip in found.clips]))
    assert found.encoded_per_s > 0 and found.decoded_per_s > 0


class Given:
    """Its latents are what the test gives."""

    channels, temporal_stride, spatial_stride = 2, 1, 8
    name, fingerprint, part_frames, codebook, is_causal, device = "given", "1", None, None, True, CPU
    has_posterior = False

    def __init__(self, latent: torch.Tensor) -> None:
        self.latent = latent

    def encode(self, video: torch.Tensor) -> torch.Tensor:
        return self.latent

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        return torch.zeros(1, 3, 1, 64, 64)


def test_statistics_of_latents_are_those_of_their_distribution() -> None:
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(1, 400, 500, generator=generator) * 2 + 1
    uniform = torch.rand(1, 400, 500, generator=generator)
    uniform[0, 0, :100] = 9.0  # outliers
    found = check(
        Given(torch.stack([normal, uniform])),  # type: ignore[arg-type]
        [CheckedClip(name="x", rgb=np.zeros((1, 64, 64, 3), np.uint8))],
        multiple_px=8,
    )
    assert found.channel_mean[0] == pytest.approx(1, abs=0.02)
    assert found.channel_std[0] == pytest.approx(2, abs=0.02)
    assert found.channel_kurtosis[0] == pytest.approx(0, abs=0.05)
    far = (normal.half().abs() > 5).sum() + 100
    assert found.outliers == pytest.approx(float(far) / 400_000)


def test_the_deviation_of_a_posterior_is_that_of_its_values() -> None:
    embedded = ReelpackConfig(device="cpu", chunk_latent_frames=1).build()
    rgb = np.random.default_rng(0).integers(0, 256, (13, 16, 24, 3), np.uint8)
    found = check(embedded, [CheckedClip(name="x", rgb=rgb)], multiple_px=8)
    mean, logvar = embedded.encode_parts([to_video(rgb)], moments=True)[0].chunk(2)
    assert found.posterior_std == pytest.approx(float((0.5 * logvar).exp().mean()), rel=1e-3)
    assert found.channel_mean == pytest.approx(mean.flatten(1).mean(1).tolist(), abs=1e-2)
    assert check(PixelBlocks(CPU), clips(), multiple_px=8).posterior_std is None


def test_codes_are_counted_and_cost_their_bits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = NetworkConfig(
        bottleneck={"kind": "fsq", "levels": (4, 4)}, widths=(8, 8, 8), latent_mean=(0.1, 0.2), latent_std=(0.5, 2.0)
    )
    save(CausalVideoAutoencoder(config), tmp_path)
    autoencoder = ReelpackAutoencoder(ReelpackConfig(path=str(tmp_path), device="cpu"))
    found = check(autoencoder, clips(), multiple_px=8)
    assert found.bits_per_pixel == pytest.approx(4 * 2 / (5 * 64))  # two latent frames of five frames
    assert found.code_usage is not None and 0 < found.code_usage <= 1
    assert found.perplexity is not None and 1 <= found.perplexity <= 16
    assert autoencoder.codebook is not None
    ids = torch.arange(16).view(1, 4, 4)
    assert torch.equal(autoencoder.codebook.ids(autoencoder.codebook.vectors(ids)), ids)


def test_frames_are_trimmed_and_resized_to_what_is_taken() -> None:
    rgb = np.zeros((7, 30, 50, 3), np.uint8)
    embedded = ReelpackConfig(device="cpu").build()
    assert fitted(rgb, embedded, 8).shape == (5, 24, 40, 3)
    assert fitted(rgb, PixelBlocks(CPU), 8).shape == (7, 24, 40, 3)


def test_a_flicker_is_an_error_of_changes_and_not_of_levels() -> None:
    source = np.full((4, 16, 16, 3), 100, np.uint8)
    brighter, blinking = source + 10, source.copy()
    blinking[1::2] += 10
    assert quality("x", source, brighter).flicker == 0
    assert quality("x", source, blinking).flicker == 10
    assert quality("x", source[:1], brighter[:1]).flicker is None


def test_the_comparison_shows_source_reconstruction_and_error_side_by_side() -> None:
    clip = clips()[1]
    frames = list(comparison([PixelBlocks(CPU), PixelBlocks(CPU)], clip, 8))
    assert len(frames) == 5 and frames[0].shape == (16, 24 * 5, 3)
    source, decoded, error = (frames[2][:, at : at + 24] for at in (0, 24, 48))
    assert np.array_equal(source, clip.rgb[2])
    assert np.array_equal(error, (4 * np.abs(source.astype(int) - decoded)).clip(0, 255))
    assert psnr(source[None], decoded[None]) < 15


def test_judges_give_distances_clip_by_clip_and_rfvd_over_all(tmp_path: Path) -> None:
    network = I3DConfig(path=str(write_i3d(tmp_path / "tiny.pt")), num_frames=10)
    judges = judges_of([FeaturesConfig()], [network], CPU)
    shown = [CheckedClip(name=clip.name, rgb=clip.rgb.repeat(2, 0).repeat(2, 1).repeat(2, 2)) for clip in clips()]
    found = check(PixelBlocks(CPU), shown, multiple_px=8, judges=judges)
    by_name = {clip.name: clip.distances["features_efficientnet_lite0"] for clip in found.clips}
    assert by_name["noise"] > 0.05 > by_name["flat"] >= 0
    assert found.mean("features_efficientnet_lite0") == pytest.approx(np.mean([*by_name.values()]))
    assert found.rfvd["rfvd_tiny_10_clips"] == 3 and found.rfvd["rfvd_tiny_10"] > 0


class Ill(PixelBlocks):
    """Fails on clips by their brightness."""

    def encode(self, video: torch.Tensor) -> torch.Tensor:
        latent = super().encode(video)
        level = round(float((video.mean() + 1) * 127.5))
        if level == 1:
            latent[0, 0, 0, 0] = float("nan")
        elif level == 2:
            latent[1] = 1e6
        elif level == 3:
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")
        elif level == 4:
            torch.empty(2**60, dtype=torch.uint8)  # more than any machine has
        return latent

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        decoded = super().decode(latent)
        return decoded * float("nan") if decoded.mean() > 0.9 else decoded


def flat(level: int) -> CheckedClip:
    return CheckedClip(name=str(level), rgb=np.full((2, 16, 24, 3), level, np.uint8))


def test_a_clip_that_fails_is_told_and_counts_in_no_figure() -> None:
    found = check(Ill(CPU), [flat(level) for level in (1, 90, 2, 3, 4, 255)], multiple_px=8)
    assert [clip.name for clip in found.clips] == ["90"]
    details = {failure.subject: failure.detail for failure in found.failures}
    assert "1 NaN of" in details["1"] and "beyond ±65504" in details["2"]
    assert details["3"] == "2 frames of 24x16 do not fit into memory (CUDA out of memory.)"
    assert "do not fit into memory" in details["4"] and "decoder" in details["255"]
    assert all(failure.kind == "model" for failure in found.failures)
    alone = check(PixelBlocks(CPU), [flat(90)], multiple_px=8)
    assert (found.channel_std, found.bits_per_pixel, found.outliers) == (
        alone.channel_std, alone.bits_per_pixel, alone.outliers,
    )  # fmt: skip


def test_where_every_clip_fails_there_are_no_figures() -> None:
    found = check(Ill(CPU), [flat(1)], multiple_px=8)
    assert (found.clips, len(found.failures), found.mean("psnr_db")) == ((), 1, None)
    assert (found.bits_per_pixel, found.outliers, found.encoded_per_s, found.memory_bytes) == (None,) * 4
    assert json.loads(json.dumps(asdict(found)))["failures"][0]["subject"] == "1"


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    class Wrong(PixelBlocks):
        def encode(self, video: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("size mismatch")

    with pytest.raises(RuntimeError, match="size mismatch"):
        check(Wrong(CPU), [flat(90)], multiple_px=8)


def test_kurtosis_and_deviation_are_those_of_scipy() -> None:
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(2, 7, 64, 64, generator=generator) ** 3 + 0.5
    found = check(Given(latent), [CheckedClip(name="x", rgb=np.zeros((1, 64, 64, 3), np.uint8))], multiple_px=8)  # type: ignore[arg-type]
    values = latent.half().double().flatten(1).numpy()
    np.testing.assert_allclose(found.channel_kurtosis, stats.kurtosis(values, axis=1), rtol=1e-6)
    np.testing.assert_allclose(found.channel_std, values.std(1), rtol=1e-6)
    np.testing.assert_allclose(found.channel_mean, values.mean(1), rtol=1e-6)
    assert found.outliers == pytest.approx((np.abs(values) > 5).mean())


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells a process's peak")
def test_the_peak_is_that_of_what_runs_inside() -> None:
    """Before and after it more is held, and nothing of that counts. Pages come from the system, not from the
    allocator, which may keep freed memory of earlier tests."""
    held = _resident_pages(64 << 20)
    _resident_pages(128 << 20).close()
    with PeakMemory(CPU) as peak:
        _resident_pages(48 << 20).close()
    held.close()
    assert peak.bytes is not None and 40 << 20 < peak.bytes < 64 << 20


def _resident_pages(size: int) -> mmap.mmap:
    """Memory of `size` bytes, each page written."""
    pages = mmap.mmap(-1, size)
    pages[:: mmap.PAGESIZE] = b"1" * (size // mmap.PAGESIZE)
    return pages
