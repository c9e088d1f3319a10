"""The weights that come with reelpack: of the size that is promised, of the recipe's shape, and of use."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.config import load_config
from pipelines.drivers.sample import sample_to_files
from train.run.folder import EMBEDDED, EMBEDDED_FOLDER, load_model, read_run, run_folder
from train.run.init import initialize
from train.sampling.config import SampleConfig


def test_the_file_is_below_eight_megabytes() -> None:
    assert (EMBEDDED_FOLDER / "model.safetensors").stat().st_size < 8_000_000


@pytest.mark.parametrize("recipe", ["demo", "reelpack_dit"])
def test_recipes_have_the_shape_of_the_weights(recipe: str) -> None:
    train, stored = load_config(recipe).train, read_run(run_folder(EMBEDDED))[0]
    assert train.model == stored.model
    assert train.data.tasks == stored.data.tasks
    model, *_ = load_model(EMBEDDED_FOLDER)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    for parameter in model.parameters():
        parameter.data.fill_(1)
    assert not initialize(model, EMBEDDED, train.init_tubelet)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_prompts_decide_what_is_seen(tmp_path: Path) -> None:
    prompts = ("A flying squirrel glides in the blue sky.", "A green meadow lies beside trees.")
    files = [tmp_path / "sky.png", tmp_path / "meadow.png"]
    settings = SampleConfig.model_validate({"guidance": 2, "num_steps": 8, "device": "cpu"})
    sample_to_files(EMBEDDED, prompts, files, "128x80", 1, settings)
    sky, meadow = (np.asarray(Image.open(file), np.float32)[:, :, :3].mean((0, 1)) for file in files)
    assert sky[2] > sky[0] + 30 and sky[2] > sky[1]
    assert meadow[1] > meadow[2] + 15
