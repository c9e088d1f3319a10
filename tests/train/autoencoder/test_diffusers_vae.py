"""Tiny autoencoders of diffusers, random weights, saved to disk and loaded as a user would."""

import json
from pathlib import Path

import pytest
import torch

from tests.train.autoencoder.models import KINDS, save_model
from train.autoencoder.config import DiffusersAutoencoderConfig


@pytest.fixture(scope="module", params=["stable_diffusion", "wan", "cogvideox"])
def saved(request, tmp_path_factory) -> tuple[str, Path, torch.nn.Module]:
    folder = tmp_path_factory.mktemp(request.param)
    save_model(request.param, folder / "vae")
    model = type(KINDS[request.param].build()).from_pretrained(folder / "vae")
    return request.param, folder, model.eval().requires_grad_(False)


def test_normalization_is_the_pipelines(saved) -> None:
    """Against each pipeline's own formula on the model's own posterior mode, and back."""
    name, folder, model = saved
    autoencoder = DiffusersAutoencoderConfig(path=str(folder / "vae"), device="cpu").build()
    video = torch.rand(1, 3, 5, 32, 48) * 2 - 1
    if name == "stable_diffusion":
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


@pytest.mark.parametrize("tiling", [False, True])
def test_an_autoencoder_without_a_first_frame_is_refused(tiling: bool, tmp_path: Path) -> None:
    """Allegro codes groups of four frames, in tiles alone."""
    from diffusers import AutoencoderKLAllegro

    model = AutoencoderKLAllegro(
        latent_channels=4, block_out_channels=(4, 4, 4, 4), layers_per_block=1, norm_num_groups=2
    )
    model.save_pretrained(tmp_path)
    message = r"does not encode a video .*-1: \[-1" if tiling else "some classes need encode.autoencoder.tiling=true"
    with pytest.raises(ValueError, match=message):
        DiffusersAutoencoderConfig(path=str(tmp_path), device="cpu", tiling=tiling).build()
