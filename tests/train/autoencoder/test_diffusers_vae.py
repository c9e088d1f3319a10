"""Tiny autoencoders of diffusers, random weights, saved to disk and loaded as a user would."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from curate.encoders import torchvision_cpu
from tests.train.autoencoder.models import KINDS, save_model
from train.autoencoder.config import DiffusersAutoencoderConfig
from train.autoencoder.diffusers_folder import REFUSED


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


def test_each_class_of_diffusers_is_under_contract_or_refused() -> None:
    """A later diffusers has more: each is then to be tried."""
    torchvision_cpu.repair()
    import diffusers

    names = {name for name in dir(diffusers) if name.endswith(("VAE", "VQModel")) or "Autoencoder" in name}
    built = {type(kind.build()).__name__ for kind in KINDS.values() if kind.build}
    assert not built & REFUSED.keys()
    assert names <= built | REFUSED.keys()


@pytest.mark.parametrize("name", REFUSED)
def test_a_class_that_cannot_be_used_is_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": name}))
    with pytest.raises(ValueError, match=f"{name}, which cannot be used: {REFUSED[name][:20]}"):
        DiffusersAutoencoderConfig(path=str(tmp_path), device="cpu").build()


@pytest.mark.parametrize("tiling", [False, True])
def test_a_class_that_does_not_code_a_first_frame_is_told(
    tiling: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one would be that this version does not know. Allegro codes groups of four frames, in tiles alone."""
    from diffusers import AutoencoderKLAllegro

    monkeypatch.setattr("train.autoencoder.diffusers_folder.REFUSED", {})
    model = AutoencoderKLAllegro(
        latent_channels=4, block_out_channels=(4, 4, 4, 4), layers_per_block=1, norm_num_groups=2
    )
    model.save_pretrained(tmp_path)
    message = r"does not encode a video .*-1: \[-1" if tiling else "some classes need encode.autoencoder.tiling=true"
    with pytest.raises(ValueError, match=message):
        DiffusersAutoencoderConfig(path=str(tmp_path), device="cpu", tiling=tiling).build()


def test_flux_2_normalizes_patches_as_its_pipeline_does(tmp_path: Path) -> None:
    """(B, C, 2 h, 2 w) to (B, 4 C, h, w), then by the running statistics."""
    autoencoder = save_model("flux_2", tmp_path).build()
    model = autoencoder.model
    video = torch.rand(1, 3, 1, 32, 48) * 2 - 1
    raw = model.encode(video[:, :, 0]).latent_dist.mode()
    patches = raw.view(1, 4, 2, 2, 3, 2).permute(0, 1, 3, 5, 2, 4).reshape(1, 16, 2, 3)
    std = (model.bn.running_var.view(1, -1, 1, 1) + model.config.batch_norm_eps).sqrt()
    expected = (patches - model.bn.running_mean.view(1, -1, 1, 1)) / std
    latent = autoencoder.encode(video)
    torch.testing.assert_close(latent, expected.transpose(0, 1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(autoencoder.decode(latent)[:, :, 0], model.decode(raw).sample.clamp(-1, 1))


def pipeline(root: Path, **options: Any) -> Path:
    save_model("stable_diffusion", root / "vae", **options)
    (root / "vae_2").mkdir()
    (root / "model_index.json").write_text("{}")
    return root / "vae"


@pytest.mark.parametrize("options", [{"variant": "fp16"}, {"max_shard_size": "1KB"}, {"safe_serialization": False}])
def test_weights_are_found_however_they_are_stored(options: dict[str, Any], tmp_path: Path) -> None:
    folder = pipeline(tmp_path / "other", **options)
    usual = save_model("stable_diffusion", tmp_path / "usual").build()
    video = torch.rand(1, 3, 1, 32, 48)
    found = DiffusersAutoencoderConfig(path=str(folder.parent), subfolder="vae", device="cpu").build()
    assert torch.equal(found.encode(video), usual.encode(video))


@pytest.mark.parametrize("damage", ["none", "subfolder", "weights", "cut", "tensor", "shard", "config"])
def test_what_cannot_be_loaded_is_told(damage: str, tmp_path: Path) -> None:
    folder = pipeline(tmp_path, **({"max_shard_size": "1KB"} if damage == "shard" else {}))
    weights, subfolder = folder / "diffusion_pytorch_model.safetensors", "vae"
    if damage == "none":
        subfolder, message = None, "is a whole pipeline; set encode.autoencoder.subfolder to one of vae, vae_2"
    elif damage == "subfolder":
        subfolder, message = "autoencoder", "no folder 'autoencoder' in .*; expected one of vae, vae_2"
    elif damage == "weights":
        weights.unlink()
        message = "no file named diffusion_pytorch_model"
    elif damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-9])
        message = "diffusers cannot load"
    elif damage == "tensor":
        tensors = load_file(weights)
        tensors.pop("encoder.conv_in.weight")
        save_file(tensors, weights, metadata={"format": "pt"})
        message = "lack 1 tensors: encoder.conv_in.weight"
    elif damage == "shard":
        min(folder.glob("*-00001-of-*")).unlink()
        message = "diffusers cannot load"
    else:
        (folder / "config.json").write_text("[]")
        message = "is no configuration of a model"
    with pytest.raises(ValueError, match=message):
        DiffusersAutoencoderConfig(path=str(tmp_path), subfolder=subfolder, device="cpu").build()
