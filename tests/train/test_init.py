"""First weights from a folder."""

from pathlib import Path
from typing import Any

import pytest
import torch

from train.config import TrainConfig
from train.convert.layouts import Tubelet
from train.init import initialize
from train.loop import train
from train.model.config import DiTConfig
from train.model.dit import DiT
from train.run import load_model
from train.segments import Sample, pack, unpack

SHAPE: dict[str, Any] = {"width": 32, "depth": 2, "num_heads": 2, "position": "sincos", "text": "none"}


def model(channels: int = 4, **changes: Any) -> DiT:
    return DiT(DiTConfig.model_validate(SHAPE | changes), channels=channels, text_dim=12)


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
        ({"channels": 16}, r"other shapes: embed\.weight \(32, 16\), here \(32, 64\)"),
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
