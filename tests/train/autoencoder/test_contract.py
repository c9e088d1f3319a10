"""What the product relies on, for every kind of autoencoder."""

from pathlib import Path

import pytest
import torch

from tests.support.families import members, with_member
from tests.train.autoencoder.models import KINDS, save_model
from train.autoencoder import config as family
from train.autoencoder.base import VideoAutoencoder, latent_shape, usable_frames
from train.autoencoder.diffusers_vae import DiffusersAutoencoder

NUM_FRAMES = 17
SIZE = (64, 96)


WITHOUT_POSTERIOR = {"cosmos", "deep_compression", "kvae_video", "tiny", "vq", "pixel_blocks"}

EXTENDED = with_member(
    family, "tests.support.members.pixel_blocks", "PixelBlocksConfig", after="| TemporalDecoderConfig"
)


def test_each_member_of_the_union_is_held_to_the_contract_and_a_new_one_is_one_line(tmp_path: Path) -> None:
    built = {
        type(save_model(name, tmp_path / name)) for name in ("embedded", "wan", "temporal_decoder", "pixel_blocks")
    }
    assert {member.__name__ for member in members(EXTENDED.AutoencoderConfig)} == {kind.__name__ for kind in built}
    settings = EXTENDED.EncodeConfig.model_validate({"autoencoder": {"kind": "pixel_blocks"}})
    assert EXTENDED.EncodeConfig.model_validate_json(settings.model_dump_json()) == settings
    record = {"config": settings.model_dump(), "autoencoder_fingerprint": "pixel_blocks-1"}
    assert EXTENDED.autoencoder_of(record).name == "pixel_blocks"
    with pytest.raises(ValueError, match="Put the weights back"):
        EXTENDED.autoencoder_of(record | {"autoencoder_fingerprint": "other"})


@pytest.fixture(scope="module", params=KINDS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, VideoAutoencoder]:
    return request.param, save_model(request.param, tmp_path_factory.mktemp(request.param)).build()


@pytest.fixture(scope="module")
def video() -> torch.Tensor:
    return torch.rand(1, 3, NUM_FRAMES, *SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_strides_are_found_and_lengths_come_back(made, video) -> None:
    name, autoencoder = made
    kind = KINDS[name]
    assert (autoencoder.channels, autoencoder.temporal_stride, autoencoder.spatial_stride) == (
        kind.channels,
        kind.temporal_stride,
        kind.spatial_stride,
    )
    for frames in (1, 1 + kind.temporal_stride, 1 + 2 * kind.temporal_stride):
        latent = autoencoder.encode(video[:, :, :frames])
        assert latent.shape == latent_shape(autoencoder, frames, *SIZE)
        assert latent.dtype == torch.float32
        out = autoencoder.decode(latent)
        assert out.shape == (1, 3, frames, *SIZE)
        assert out.dtype == torch.float32 and out.abs().max() <= 1.0


def test_causality_is_what_is_declared(made, video) -> None:
    """Of a causal one an image is the first frame and a beginning that of the whole; of others neither is."""
    name, autoencoder = made
    assert autoencoder.is_causal == KINDS[name].is_causal
    whole = autoencoder.encode(video[:, :, : usable_frames(NUM_FRAMES, autoencoder.temporal_stride)])
    for frames in (1, 1 + autoencoder.temporal_stride):
        beginning = autoencoder.encode(video[:, :, :frames])
        difference = (beginning - whole[:, : beginning.shape[1]]).abs().max() / whole.std()
        assert difference < 1e-4 if autoencoder.is_causal else difference > 0.01


def test_parts_are_the_whole(made, video) -> None:
    _, autoencoder = made
    stride = autoencoder.temporal_stride
    video = video[:, :, : usable_frames(NUM_FRAMES, stride)]
    parts = torch.split(video, [1 + stride, *[stride] * ((NUM_FRAMES - 1) // stride - 1)], dim=2)
    assert len(parts) > 1
    [latent] = autoencoder.encode_parts(iter(parts))
    torch.testing.assert_close(latent, autoencoder.encode(video), rtol=1e-3, atol=1e-3)


def test_levels_of_frames_are_taken_as_values_are(made) -> None:
    _, autoencoder = made
    levels = torch.randint(256, (1, 3, 1, *SIZE), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    [latent] = autoencoder.encode_parts([levels])
    assert torch.equal(latent, autoencoder.encode(levels / 127.5 - 1))


def test_a_latent_is_that_of_its_video_in_any_batch(made) -> None:
    _, autoencoder = made
    stride = autoencoder.temporal_stride
    shape = (3, 3, 1 + stride, *SIZE)
    videos = torch.rand(shape, generator=torch.Generator().manual_seed(2)) * 2 - 1
    latents = autoencoder.encode_parts(videos.split([1, stride], dim=2) if autoencoder.part_frames else [videos])
    assert latents.shape == (3, *latent_shape(autoencoder, 1 + stride, *SIZE))
    for latent, video in zip(latents, videos, strict=True):
        torch.testing.assert_close(latent, autoencoder.encode(video[None]), rtol=1e-4, atol=1e-4)


def test_moments_are_the_latent_and_its_variance(made, video) -> None:
    name, autoencoder = made
    assert autoencoder.has_posterior == (name not in WITHOUT_POSTERIOR)
    if not autoencoder.has_posterior:
        return
    beginning = video[:, :, : 1 + autoencoder.temporal_stride]
    mean, logvar = autoencoder.encode_parts([beginning], moments=True)[0].chunk(2)
    assert torch.equal(mean, autoencoder.encode(beginning)) and logvar.shape == mean.shape
    assert logvar.isfinite().all() and logvar.std() > 0
    if isinstance(autoencoder, DiffusersAutoencoder):
        # A latent that is one deviation above the mean is so before normalization, too.
        above = mean + (0.5 * logvar).exp()
        raw = [autoencoder.raw(part) for part in (mean, above)]
        wanted = autoencoder._output(beginning).latent_dist.std
        wanted = wanted[0] if autoencoder._is_video else wanted.transpose(0, 1)
        torch.testing.assert_close(raw[1] - raw[0], wanted, rtol=1e-3, atol=1e-5)


def test_causality_is_measured_in_the_precision_that_is_used(tmp_path: Path) -> None:
    for name in ("wan", "hunyuan"):
        config = save_model(name, tmp_path / name).model_copy(update={"dtype": "bfloat16"})
        assert config.build().is_causal == KINDS[name].is_causal
