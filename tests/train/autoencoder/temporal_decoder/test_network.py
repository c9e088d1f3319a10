"""Temporal layers in the decoders of images: they begin as nothing, look back, and leave the base as it is."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.train.autoencoder.models import deep_compression, save_model, stable_diffusion, tiny
from train.autoencoder.base import VideoAutoencoder
from train.autoencoder.causal_net import Stream
from train.autoencoder.config import DiffusersAutoencoderConfig, ReelpackConfig
from train.autoencoder.network import CausalVideoAutoencoder
from train.autoencoder.network_config import NetworkConfig
from train.autoencoder.temporal_decoder.layer import TemporalLayer
from train.autoencoder.temporal_decoder.network import TemporalDecoder
from train.autoencoder.weights_folder import save


def flux() -> nn.Module:
    """16 channels, and no convolutions around the latents."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 8, 8, 8),
        layers_per_block=2,
        norm_num_groups=2,
        latent_channels=16,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def asymmetric() -> nn.Module:
    from diffusers import AsymmetricAutoencoderKL

    return AsymmetricAutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        down_block_out_channels=(4, 8),
        up_block_types=("UpDecoderBlock2D",) * 2,
        up_block_out_channels=(8, 16),
        layers_per_up_block=2,
        norm_num_groups=2,
    )


DIFFUSERS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "stable_diffusion": (stable_diffusion, 6),
    "flux": (flux, 14),
    "asymmetric": (asymmetric, 8),
    "tiny": (tiny, 4),
    "deep_compression": (deep_compression, 2),
}
"""With the number of blocks that get a layer."""
OWN = {
    "images": ({"temporal_stride": 1, "spatial_stride": 8, "over_time": False}, 4),
    "every frame": ({"temporal_stride": 1, "spatial_stride": 4}, 2),
    "videos": ({"temporal_stride": 4, "spatial_stride": 8}, 6),
}
BASES = [*DIFFUSERS, *OWN]


def base_of(name: str, folder: Path, *, deviation: float | None = 0.2) -> VideoAutoencoder:
    """Weights of networks of one's own have this deviation; None: as training begins, where layers of time are zero
    and let nothing through."""
    torch.manual_seed(0)
    if name in DIFFUSERS:
        from curate.encoders.torchvision_cpu import repair

        repair()
        DIFFUSERS[name][0]().save_pretrained(folder)
        return DiffusersAutoencoderConfig(path=str(folder), device="cpu").build()
    strides = OWN[name][0]
    widths = (8, 12, 16)[: NetworkConfig(**strides).num_levels]
    config = NetworkConfig(**strides, latent_channels=4, widths=widths, latent_mean=(0.1,) * 4, latent_std=(2.0,) * 4)
    model = CausalVideoAutoencoder(config)
    with torch.no_grad():
        for parameter in model.parameters() if deviation else ():
            parameter.normal_(0.0, deviation)
    save(model, folder)
    return ReelpackConfig(path=str(folder), device="cpu", chunk_latent_frames=8).build()  # the clips are one chunk


def disturb(decoder: TemporalDecoder) -> None:
    """As training would: no layer is the identity."""
    with torch.no_grad():
        for number, parameter in enumerate(decoder.layers.parameters()):
            generator = torch.Generator().manual_seed(number)
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)


@pytest.fixture(scope="module", params=BASES)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> VideoAutoencoder:
    return base_of(request.param, tmp_path_factory.mktemp("base"))


def latent_of(base: VideoAutoencoder, num_frames: int = 5) -> torch.Tensor:
    shape = (base.channels, num_frames, 4, 6)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def test_layers_begin_as_the_identity_and_the_base_never_has_them(base: VideoAutoencoder) -> None:
    before = base.decode(latent_of(base))
    decoder = TemporalDecoder(base, "temporal")
    decoded = decoder.decode(latent_of(base)[None])
    assert torch.equal(decoded.clamp(-1, 1), before)
    disturb(decoder)
    assert not torch.allclose(decoder.decode(latent_of(base)[None]).clamp(-1, 1), before, atol=1e-3)
    assert torch.equal(base.decode(latent_of(base)), before)


@pytest.mark.parametrize("chunk", [1, 2, 4])
def test_chunks_are_the_whole_and_a_batch_is_its_videos(base: VideoAutoencoder, chunk: int) -> None:
    decoder, latent = TemporalDecoder(base, "temporal"), latent_of(base)
    disturb(decoder)
    batch = torch.stack([latent, latent.flip(1)])
    whole = decoder.decode(batch)
    torch.testing.assert_close(decoder.decode(batch, chunk=chunk), whole, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(decoder.decode(latent.flip(1)[None]), whole[1:], rtol=1e-4, atol=1e-4)


def test_a_frame_depends_on_earlier_ones_as_far_as_it_says_and_on_no_later_one(base: VideoAutoencoder) -> None:
    decoder = TemporalDecoder(base, "temporal")
    disturb(decoder)
    assert decoder.reach_frames == 2 * len(decoder.layers)
    latent = latent_of(base)
    other = latent.clone()
    other[:, 3] += 1
    first, second = (decoder.decode(x[None]) for x in (latent, other))
    same = 1 + base.temporal_stride * 2
    torch.testing.assert_close(first[:, :, :same], second[:, :, :same], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(first[:, :, -1], second[:, :, -1], atol=1e-4)


def test_a_frame_beyond_the_reach_changes_nothing(tmp_path: Path) -> None:
    base = base_of("deep_compression", tmp_path)
    decoder = TemporalDecoder(base, "temporal")
    disturb(decoder)
    reach = decoder.reach_frames
    latent = latent_of(base, num_frames=reach + 3)
    other = latent.clone()
    other[:, 0] += 1
    changed = (decoder.decode(latent[None]) - decoder.decode(other[None])).abs().amax((0, 1, 3, 4))
    assert (changed[: reach + 1] > 0).all() and (changed[reach + 1 :] == 0).all()


@pytest.mark.parametrize("name", BASES)
def test_each_residual_block_has_a_layer(name: str, tmp_path: Path) -> None:
    decoder = TemporalDecoder(base_of(name, tmp_path), "temporal")
    assert len(decoder.layers) == {**DIFFUSERS, **OWN}[name][1]
    assert all(parameter.requires_grad for parameter in decoder.parameters())
    assert {name.split(".")[0] for name in decoder.state_dict()} == {"layers"}


@pytest.mark.parametrize("name", ["stable_diffusion", "images"])
def test_the_whole_decoder_is_trained_by_choice_and_the_encoder_never(name: str, tmp_path: Path) -> None:
    base = base_of(name, tmp_path)
    decoder = TemporalDecoder(base, "decoder")
    decoder.decode(latent_of(base)[None]).square().mean().backward()
    reached = {name for name, parameter in decoder.named_parameters() if parameter.grad is not None}
    assert reached == dict(decoder.named_parameters()).keys()
    assert any(name.startswith("base_decoder.decoder.") for name in reached)
    assert not any(parameter.requires_grad for parameter in base.model.encoder.parameters())


@pytest.mark.parametrize("name", ["wan", "stable_video"])
def test_decoders_of_videos_are_refused(name: str, tmp_path: Path) -> None:
    base = save_model(name, tmp_path).build()
    with pytest.raises(ValueError, match="decodes the frames of a video together already"):
        TemporalDecoder(base, "temporal")


def test_a_layer_in_half_precision_is_the_identity_too() -> None:
    x = torch.randn(1, 8, 3, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(TemporalLayer(8)(x.bfloat16(), Stream()), x.bfloat16())


def test_an_own_network_of_images_codes_frames_alone(tmp_path: Path) -> None:
    base = base_of("images", tmp_path)
    video = torch.rand(1, 3, 3, 16, 16) * 2 - 1
    latent = base.encode(video)
    for frame in range(3):
        alone = base.encode(video[:, :, frame : frame + 1])
        torch.testing.assert_close(latent[:, frame : frame + 1], alone, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(base.decode(alone), base.decode(latent)[:, :, frame : frame + 1])
    with pytest.raises(ValueError, match="over_time=false: got temporal_stride 4"):
        NetworkConfig(over_time=False)
