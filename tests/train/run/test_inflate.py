"""An image model that becomes one of videos: its function at the start, what trains, and what stays for good."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.models import dit_config
from tests.train.test_loop import config, logged
from train.convert.inflate import inflated
from train.loop import train
from train.model.base import Denoiser
from train.model.dit import DiT
from train.model.unet.config import UNetConfig
from train.packing.batch import Sample, pack, unpack
from train.run.export import export_run
from train.run.folder import load_model
from train.run.init import initialize

SHAPE: dict[str, Any] = {"width": 32, "depth": 2, "num_heads": 2}
UNET: dict[str, Any] = {
    "kind": "unet", "width": 16, "multipliers": (1, 2), "depths": (1, 1), "attention_levels": (1,), "head_width": 8,
    "num_groups": 4, "condition_width": 24, "patch": (1, 2, 2), "temporal": "none",
}  # fmt: skip
PIXART = {
    "position": "sincos", "sincos_extent": 6.0, "adaln": "shared", "final_adaln": "table", "qk_norm": False,
    "cross_attention_norm": "none", "caption": {"norm": False, "pooled": False, "absent": "zeros"},
}  # fmt: skip
CASES: list[dict[str, Any]] = [
    PIXART,
    {"position": "sincos", "text": "none", "num_classes": 3, "qk_norm": False},  # DiT
    {"position": "rope", "adaln": "lora", "adaln_rank": 4, "qk_norm": "width"},
    {"position": "absolute", "conditioning": "adaln"},
    {"position": "fractional", "position_product": True, "conditioning": "cross_attention"},
    {"position": "fourier", "embedders_per_block": True, "conditions": ("motion",)},
    {"conditioning": "in_context", "text": "in_context"},
    {"mixer": {"kind": "linear_attention"}, "mlp": "gated_convolution", "position": "none"},  # Sana
    {"mixer": {"kind": "mamba", "state": 4, "chunk": 4}, "position": "sincos"},
]
QUIET = {"evaluate__held_out__every": 0, "evaluate__captions__every": 0}


def drawn(model: Denoiser, seed: int = 1) -> Denoiser:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def image_model(case: dict[str, Any]) -> Denoiser:
    return drawn(DiT(dit_config(**SHAPE | case), channels=4, text_dim=12))


def outputs(of: Denoiser, samples: list[Sample]) -> list[torch.Tensor]:
    batch = pack(samples, of.config.patch, 12, of.config.conditions)
    with torch.no_grad():
        return unpack(of(batch.tokens, batch.timesteps, batch), batch, of.config.patch)


def frames_of(sample: Sample) -> list[Sample]:
    """Each frame as an image."""
    pairs = zip(sample.latent.split(1, 1), sample.noise.split(1, 1), strict=True)
    return [replace(sample, latent=latent, noise=noise, fps=0.0) for latent, noise in pairs]


def check_frames_are_images(video: Denoiser, images: Denoiser, samples: list[Sample]) -> None:
    expected = [torch.cat(outputs(images, frames_of(sample)), dim=1) for sample in samples]
    for found, one in zip(outputs(video, samples), expected, strict=True):
        assert one.abs().max() > 0.1
        torch.testing.assert_close(found, one, atol=1e-6 * max(1.0, one.abs().max().item()), rtol=2e-5)


@pytest.mark.parametrize("temporal", ["attention", "convolution", "both"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case.values()))[:40])
def test_each_frame_of_a_video_begins_as_an_image_and_new_layers_learn(
    samples: list[Sample], case: dict[str, Any], temporal: str
):
    """Whatever the rate: the image model was shown that of images alone. Where frames meet otherwise, in a scan of the
    whole sample or in tokens that are averaged over its frames, it is so of images only."""
    images = image_model(case)
    video = inflated(images, temporal=temporal)
    if case.get("mixer", {}).get("kind") == "mamba" or "in_context" in case.values():
        samples = [sample for sample in samples if sample.latent.shape[1] == 1]
    check_frames_are_images(video, images, samples)
    batch = pack(samples, video.config.patch, 12, video.config.conditions)
    video(batch.tokens, batch.timesteps, batch).square().sum().backward()
    for block in video.blocks if len(samples) > 3 else ():
        for layer in block.temporal.values():
            gate = layer.mixer.last if not layer.has_gate else layer.modulation
            assert sum(p.grad.abs().sum() for p in gate.parameters() if p.grad is not None) > 0


def test_a_u_net_begins_as_its_image_model_at_every_rate(samples: list[Sample]):
    images = drawn(UNetConfig.model_validate(UNET).build(channels=4, text_dim=12))
    for temporal in ("attention", "convolution"):
        video = inflated(images, temporal=temporal)
        check_frames_are_images(video, images, samples)
        assert video.conditioner.fps.mlp[2].weight.requires_grad and not video.conditioner.fps.mlp[2].weight.any()


def test_tubelets_and_layers_along_time_treat_an_image_as_before(samples: list[Sample]):
    images = image_model({})
    alone = [sample for sample in samples if sample.latent.shape[1] == 1]
    for changes in ({"temporal": "both"}, {"pattern": "joint"}, {"pattern": "factorized_self_attention"}):
        video = inflated(images, frames_per_patch=2, **changes)
        assert video.config.patch == (2, 2, 2)
        torch.testing.assert_close(outputs(video, alone), outputs(images, alone), atol=1e-5, rtol=1e-5)


def test_an_inflated_model_is_always_the_same_and_keeps_types_and_what_it_was():
    images = image_model({}).bfloat16()
    one, other = (inflated(images, temporal="both").state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert one["blocks.0.mlp.0.weight"].dtype is torch.bfloat16
    assert one["conditioners.0.fps.mlp.2.bias"].dtype is torch.bfloat16


@pytest.mark.parametrize(
    ("case", "asked", "told"),
    [
        ({}, {"temporal": "sideways"}, "--temporal sideways: a dit has none or attention or convolution or both"),
        (UNET, {"temporal": "both"}, "--temporal both: a unet has attention or convolution or none"),
        (UNET, {"pattern": "spatial"}, "kind unet, and --pattern and --frames-per-patch are of a dit"),
        (UNET, {"frames_per_patch": 2}, "kind unet, and --pattern and --frames-per-patch are of a dit"),
        (UNET | {"temporal": "attention"}, {"temporal": "convolution"}, "it has temporal attention; expected none"),
        ({}, {"pattern": "alternating"}, "--pattern alternating: .*expected joint, spatial, factorized_self"),
        ({}, {"pattern": "factorised"}, "--pattern factorised: .*expected joint, spatial, factorized_self"),
        (
            {"pattern": "alternating"},
            {"temporal": "both"},
            "temporal none, pattern alternating and patches of 1",
        ),
        ({"patch": (2, 2, 2)}, {"temporal": "both"}, "pattern joint and patches of 2 frames; expected an image model"),
        (CASES[-1], {"pattern": "spatial"}, "--pattern spatial is of attention, and the model's mixer is mamba"),
        (
            {"width": 36, "num_heads": 4, "position": "sincos"},
            {"temporal": "both"},
            "^temporal both rotates pairs .* head width 9",
        ),
    ],
)
def test_what_a_model_cannot_become_is_told_with_both_sides(case: dict, asked: dict, told: str):
    model: Denoiser = (
        UNetConfig.model_validate(case).build(channels=4, text_dim=12) if "kind" in case else image_model(case)
    )
    with pytest.raises(ValueError, match=told) as error:
        inflated(model, **asked)
    assert "\n" not in str(error.value)


def inflating(base: Path, **changes: Any) -> Any:
    settings = {
        "init": str(base), "steps": 4, "model__temporal": "both", "model__mixer": {"pattern": "spatial"},
        "optimizer__schedule": "constant", "optimizer__warmup_steps": 0, "checkpoint__every": 2,
    }  # fmt: skip
    return config(**settings | QUIET | changes)


@pytest.fixture(scope="module")
def base(dataset: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("images")
    train(config(steps=2, **QUIET), dataset, out / "run")
    return export_run(out / "run", out / "model")


@pytest.mark.parametrize("trainable", ["added", "*.temporal.*"])
def test_spatial_layers_stay_as_they_are_and_a_run_in_parts_is_the_whole_run(
    dataset: str, base: Path, tmp_path: Path, samples: list[Sample], trainable: str
):
    for name, ends in (("whole", (4,)), ("parts", (2, 4))):
        for steps in ends:
            train(inflating(base, steps=steps, trainable=[trainable]), dataset, tmp_path / name)
    whole, parts = (load_model(tmp_path / name, weights="model")[0] for name in ("whole", "parts"))
    assert [row["loss"] for row in logged(tmp_path / "whole")] == [row["loss"] for row in logged(tmp_path / "parts")]
    assert all(
        torch.equal(*pair) for pair in zip(whole.state_dict().values(), parts.state_dict().values(), strict=True)
    )
    before = Denoiser.from_pretrained(base)
    now = whole.state_dict()
    frozen = {name: value for name, value in before.state_dict().items() if ".fps.mlp.2." not in name}
    assert all(torch.equal(now[name], value) for name, value in frozen.items())
    learned = [
        value for name, value in now.items() if name.endswith("modulation.linear.weight") and "temporal" in name
    ]
    assert learned and all(value.any() for value in learned)
    images = [sample for sample in samples if sample.latent.shape[1] == 1]
    torch.testing.assert_close(outputs(whole, images), outputs(before, images), atol=1e-5, rtol=1e-5)


def test_a_base_with_all_parts_leaves_nothing_to_train(dataset: str, base: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"train\.trainable=\[added\]: nothing would train: .*train\.model\.temporal"):
        train(inflating(base, model__temporal="none", model__mixer={}, trainable=["added"]), dataset, tmp_path)


def test_layers_along_time_of_a_folder_are_not_lost(base: Path, tmp_path: Path):
    video = inflated(Denoiser.from_pretrained(base), temporal="both")
    video.save_pretrained(tmp_path)
    model: Denoiser = Denoiser.from_pretrained(base).config.build(channels=video.channels, text_dim=video.text_dim)
    with pytest.raises(ValueError, match=r"the run's model has no blocks\.0\.temporal\.attention"):
        initialize(model, tmp_path, "central")
    assert json.loads((tmp_path / "config.json").read_text())["model"]["temporal"] == "both"
