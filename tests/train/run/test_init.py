"""First weights from a folder."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.support.models import dit_config
from train.convert.layouts import Tubelet
from train.loop import train
from train.model.dit import DiT
from train.model.dit_config import DiTConfig
from train.model.mixers.attention_config import AttentionConfig, Pattern
from train.packing.batch import Sample, pack, unpack
from train.packing.shapes import SHOWN
from train.run.config import TrainConfig
from train.run.export import export_run
from train.run.folder import load_model
from train.run.init import initialize

SHAPE: dict[str, Any] = {"width": 32, "depth": 2, "num_heads": 2, "position": "sincos", "text": "none"}


def model(channels: int = 4, **changes: Any) -> DiT:
    return DiT(dit_config(**SHAPE | changes), channels=channels, text_dim=12)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    source = model(condition_on_fps=False)
    for parameter in source.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    source.save_pretrained(tmp_path / "source")
    return tmp_path / "source"


def outputs(of: DiT, samples: list[Sample]) -> list[torch.Tensor]:
    batch = pack(samples, of.config.patch, 12, of.config.conditions)
    with torch.no_grad():
        return unpack(of(batch.tokens, batch.timesteps, batch), batch, of.config.patch)


@pytest.mark.parametrize(
    "added",
    [
        {},
        {"text": "cross_attention"},
        {"text": "pooled", "condition_on_fps": True, "conditions": ("motion",), "num_classes": 3},
    ],
    ids=["the same model", "captions", "all conditions"],
)
def test_a_run_begins_with_the_function_of_its_folder(folder: Path, samples: list[Sample], added: dict):
    begun = model(condition_on_fps=False) if not added else model(**{"condition_on_fps": False} | added)
    initialize(begun, folder, "central")
    expected = outputs(DiT.from_pretrained(folder), samples)
    assert expected[0].abs().max() > 0.1
    torch.testing.assert_close(outputs(begun, samples), expected)


def redrawn(folder: Path, **shape: Any) -> DiT:
    torch.manual_seed(1)
    source = model(**shape)
    for parameter in source.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    source.save_pretrained(folder)
    return source.eval()


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"adaln": "lora", "adaln_rank": 4},
        {"adaln": "shared"},
        {"conditioning": "adaln"},
        {"conditioning": "cross_attention"},
        {"conditioning": "in_context"},
    ],
    ids=lambda shape: "-".join(map(str, shape.values())) or "adaln_zero",
)
def test_a_model_gets_attention_along_time_that_starts_without_effect(
    tmp_path: Path, samples: list[Sample], shape: dict[str, Any]
):
    """Its function on images is that of the folder; with the spatial attention alone it is so on videos."""
    source = redrawn(tmp_path / "source", **shape)
    begun = model(**shape, pattern="factorized_self_attention")
    initialize(begun, tmp_path / "source", "central")
    images = [sample for sample in samples if sample.latent.shape[1] == 1]
    assert outputs(source, images)[0].abs().max() > 0.1
    torch.testing.assert_close(outputs(begun, images), outputs(source, images))
    windows = AttentionConfig(pattern="windows", spacetime_window=(1, None, None))
    spatial = DiT(source.config.model_copy(update={"mixer": windows}),
                  channels=4, text_dim=12)  # fmt: skip
    spatial.load_state_dict(source.state_dict())
    videos = [sample for sample in samples if sample.latent.shape[1] > 1]
    torch.testing.assert_close(outputs(begun, videos), outputs(spatial, videos))
    batch = pack(videos, begun.config.patch, 12)
    begun(batch.tokens, batch.timesteps, batch).square().sum().backward()
    silent = begun.blocks[0].self_attentions[1].out.weight if shape.get("conditioning") else None
    gate = begun.blocks[0].modulation.linear if silent is None and not shape.get("adaln") else None
    learns = silent.grad if silent is not None else gate.bias.grad.chunk(9)[5] if gate is not None else None
    assert learns is None or learns.abs().max() > 0, "and it is learned from the first step on"


CHANGES: dict[str, dict[str, Any]] = {
    "patch": {"patch": (2, 2, 2)},
    "mixer": {"pattern": "factorized_self_attention", "kernel": "dense", "shift_windows": True},
    "temporal": {"temporal": "both", "pattern": "spatial"},
    "rope_grid": {"rope_grid": (2, 4, 4)},
    "rope_scaling": {"rope_scaling": "interpolation"},
    "reference_fps": {"reference_fps": 24.0},
    "frame_lag": {"frame_lag": 0.5},
    "text": {"text": "cross_attention"},
    "text_padding": {"text": "cross_attention", "text_padding": 8},
    "num_classes": {"num_classes": 5},
    "condition_on_fps": {"condition_on_fps": True},
    "conditions": {"conditions": ("motion",)},
    "shown_channels": {"shown_channels": 5},
    "conditioning_latents": {"conditioning_latents": {"low_resolution": 4}},
    "self_conditioning": {"self_conditioning": 0.5},
}


@pytest.mark.parametrize("name", sorted(DiTConfig.may_differ_from_init))
def test_every_setting_that_may_differ_is_taken(tmp_path: Path, samples: list[Sample], name: str):
    shape = {"condition_on_fps": False, "num_classes": 3, "position": "rope"}
    source = redrawn(tmp_path / "source", **shape)
    begun = model(**shape | CHANGES[name])
    initialize(begun, tmp_path / "source", "central")
    images = [sample for sample in samples if sample.latent.shape[1] == 1]
    shown = {SHOWN: torch.ones(5, *images[0].latent.shape[1:])} if name == "shown_channels" else {}
    given = [replace(images[0], conditioning=shown), *images[1:]]
    torch.testing.assert_close(outputs(begun, given), outputs(source, images))


@pytest.mark.parametrize("pattern", get_args(Pattern))
def test_every_pattern_goes_on_from_joint_attention(tmp_path: Path, samples: list[Sample], pattern: Pattern):
    redrawn(tmp_path / "source")
    begun = model(pattern=pattern)
    initialize(begun, tmp_path / "source", "central")
    assert all(out.isfinite().all() for out in outputs(begun, samples))


def test_attention_along_time_is_not_lost_in_silence(tmp_path: Path):
    redrawn(tmp_path / "source", pattern="factorized_self_attention")
    with pytest.raises(ValueError, match=r"the run's model has no blocks\.0\..*self_attentions\.1"):
        initialize(model(), tmp_path / "source", "central")


@pytest.mark.parametrize("tubelet", ["central", "uniform"])
def test_an_image_model_becomes_one_of_tubelets_that_treats_images_alike(
    folder: Path, samples: list[Sample], tubelet: Tubelet
):
    begun = model(condition_on_fps=False, patch=(2, 2, 2))
    initialize(begun, folder, tubelet)
    images = [sample for sample in samples if sample.latent.shape[1] == 1]
    torch.testing.assert_close(outputs(begun, images), outputs(DiT.from_pretrained(folder), images))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"width": 64}, r"train\.model\.width=32 \(here 64\).*other shapes: blocks\.0\..* \(32,\), here \(64,\)"),
        ({"depth": 1}, r"train\.model\.depth=2 .*the run's model has no blocks\.1"),
        ({"num_heads": 4}, r"train\.model\.num_heads=2 \(here 4\)"),
        ({"channels": 16}, r"its model reads latents of 4 channels, the dataset has those of 16; .*autoencoder"),
        ({"patch": (1, 4, 4)}, r"other shapes: embed\.weight \(32, 16\), here \(32, 64\)"),
    ],
)
def test_a_model_of_another_shape_is_refused_with_what_differs(folder: Path, changes: dict, told: str):
    with pytest.raises(ValueError, match=rf"train\.init={folder}: .*{told}"):
        initialize(model(**{"condition_on_fps": False} | changes), folder, "central")


def test_a_folder_without_a_model_names_the_commands(tmp_path: Path):
    with pytest.raises(ValueError, match=r"no model here .*`reelpack train-export` and `reelpack train-import`"):
        initialize(model(), tmp_path, "central")


def test_a_run_that_has_a_checkpoint_goes_on_from_that(dataset: str, folder: Path, tmp_path: Path):
    settings = {
        "steps": 2,
        "device": "cpu",
        "init": str(folder),
        "model": SHAPE | {"condition_on_fps": False},
        "data": {"plan": {"token_budget": 96}},
    }
    train(TrainConfig.model_validate(settings), dataset, tmp_path / "run")
    before = load_model(tmp_path / "run", weights="model")[0].state_dict()
    (folder / "model.safetensors").unlink()
    train(TrainConfig.model_validate(settings | {"steps": 3}), dataset, tmp_path / "run")
    after = load_model(tmp_path / "run", weights="model")[0].state_dict()
    assert all((after[name] - before[name]).abs().max() < 0.01 for name in before)
    with pytest.raises(ValueError, match="no model here"):
        train(TrainConfig.model_validate(settings), dataset, tmp_path / "new")


def test_weights_that_are_not_of_their_configuration_are_no_additions(folder: Path):
    """What a folder's model must have and has not would begin as noise."""
    state = load_file(folder / "model.safetensors")
    lacking = {name: tensor for name, tensor in state.items() if not name.startswith("blocks.1.")}
    save_file(lacking, folder / "model.safetensors")
    with pytest.raises(
        ValueError, match=r"no model here .*is not of the model in config\.json: it lacks blocks\.1\."
    ) as error:
        initialize(model(condition_on_fps=False), folder, "central")
    assert "more" in str(error.value) and len(str(error.value)) < 900
    with pytest.raises(ValueError, match=r"cannot load a model from here \(it lacks blocks\.1\."):
        DiT.from_pretrained(folder)


def test_a_folder_that_predicts_other_values_than_the_objective_is_refused(folder: Path):
    begun = DiT(DiTConfig.model_validate(SHAPE | {"condition_on_fps": False}), channels=4, text_dim=12, num_outputs=2)
    with pytest.raises(ValueError, match=r"predicts 1 values per feature, the run's 2; .*learn_sigma=false"):
        initialize(begun, folder, "central")


def test_a_model_of_another_latent_space_is_taken_on_purpose_alone(dataset: str, tmp_path: Path):
    settings = {"steps": 1, "device": "cpu", "model": {"width": 32, "depth": 1, "num_heads": 2},
                "data": {"plan": {"token_budget": 128, "packs_per_step": 1}}}  # fmt: skip
    root = Path(shutil.copytree(dataset, tmp_path / "data"))
    path = root / "latents/lat0/fingerprint.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"autoencoder": "ours", "autoencoder_fingerprint": "1234"}))
    train(TrainConfig.model_validate(settings), str(root), tmp_path / "first")
    folder = export_run(tmp_path / "first", tmp_path / "model")
    settings["init"] = str(folder)
    train(TrainConfig.model_validate(settings), str(root), tmp_path / "same")
    path.write_text(json.dumps(record | {"autoencoder": "theirs", "autoencoder_fingerprint": "5678"}))
    told = (
        r"trained on latents lat0 \(autoencoder ours, weights 1234.*has lat0 \(autoencoder theirs.*init_latents=other"
    )
    with pytest.raises(ValueError, match=told):
        train(TrainConfig.model_validate(settings), str(root), tmp_path / "swapped")
    assert train(TrainConfig.model_validate(settings | {"init_latents": "other"}), str(root), tmp_path / "other").steps
