"""Tiny autoencoders of diffusers, random weights, saved to disk and loaded as a user would."""

import json
from pathlib import Path

import pytest
import torch

from curate.encoders.torchvision_cpu import repair
from train.autoencoder.config import DiffusersAutoencoderConfig


def image_model():
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(4, 8),
        layers_per_block=1,
        norm_num_groups=2,
        latent_channels=4,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        sample_size=32,
    )


def wan_model():
    from diffusers import AutoencoderKLWan

    return AutoencoderKLWan(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[0.5, 1.0, 2.0, 3.0],
    )


def cogvideox_model():
    from diffusers import AutoencoderKLCogVideoX

    return AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(4, 4, 4, 4),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
        scaling_factor=0.7,
    )


MODELS = {"image": (image_model, 1, 2), "wan": (wan_model, 4, 8), "cogvideox": (cogvideox_model, 4, 8)}


@pytest.fixture(scope="module", params=MODELS)
def saved(request, tmp_path_factory) -> tuple[str, Path, torch.nn.Module]:
    repair()
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp(request.param)
    model = MODELS[request.param][0]().eval().requires_grad_(False)
    model.save_pretrained(folder / "vae")
    return request.param, folder, model


def test_strides_and_shapes(saved) -> None:
    name, folder, _ = saved
    autoencoder = DiffusersAutoencoderConfig(path=str(folder), subfolder="vae", device="cpu").build()
    _, temporal, spatial = MODELS[name]
    assert (autoencoder.temporal_stride, autoencoder.spatial_stride, autoencoder.channels) == (temporal, spatial, 4)
    for frames in (1, 5):
        video = torch.rand(1, 3, frames, 32, 48) * 2 - 1
        latent = autoencoder.encode(video)
        assert latent.shape == (4, 1 + (frames - 1) // temporal, 32 // spatial, 48 // spatial)
        out = autoencoder.decode(latent)
        assert out.shape == video.shape and out.dtype == torch.float32
        assert out.abs().max() <= 1.0


def test_normalization_is_the_pipelines(saved) -> None:
    """Against each pipeline's own formula on the model's own posterior mode, and back."""
    name, folder, model = saved
    autoencoder = DiffusersAutoencoderConfig(path=str(folder / "vae"), device="cpu").build()
    video = torch.rand(1, 3, 5, 32, 48) * 2 - 1
    if name == "image":
        raw = model.encode(video[0].transpose(0, 1)).latent_dist.mode()
        expected = ((raw - 0.1159) * 0.3611).transpose(0, 1)
        back = model.decode(raw).sample.transpose(0, 1)[None]
    else:
        raw = model.encode(video).latent_dist.mode()
        if name == "wan":
            mean = torch.tensor([0.1, -0.2, 0.3, 0.0]).view(1, 4, 1, 1, 1)
            std = torch.tensor([0.5, 1.0, 2.0, 3.0]).view(1, 4, 1, 1, 1)
            expected = ((raw - mean) / std)[0]
        else:
            expected = (raw * 0.7)[0]
        back = model.decode(raw).sample[:, :, -5:]  # CogVideoX repeats the first frame
    latent = autoencoder.encode(video)
    torch.testing.assert_close(latent, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(autoencoder.decode(latent), back.clamp(-1, 1), rtol=1e-3, atol=1e-3)


def test_fingerprint_follows_weights_and_settings(saved, tmp_path) -> None:
    _, folder, model = saved
    config = DiffusersAutoencoderConfig(path=str(folder / "vae"), device="cpu")
    fingerprint = config.build().fingerprint
    assert config.build().fingerprint == fingerprint
    assert config.model_copy(update={"dtype": "bfloat16"}).build().fingerprint != fingerprint
    assert config.model_copy(update={"tiling": True}).build().fingerprint != fingerprint

    next(iter(model.parameters())).add_(0.1)
    model.save_pretrained(tmp_path)
    assert config.model_copy(update={"path": str(tmp_path)}).build().fingerprint != fingerprint


def test_a_folder_that_holds_no_autoencoder_is_named(tmp_path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"}))
    with pytest.raises(ValueError, match="UNet2DModel"):
        DiffusersAutoencoderConfig(path=str(tmp_path)).build()
    with pytest.raises(ValueError, match="no folder"):
        DiffusersAutoencoderConfig(path=str(tmp_path / "nothing")).build()
