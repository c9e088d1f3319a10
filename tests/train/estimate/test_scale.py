"""A set that fills little of its packs, and a recipe that is long for its clips, are said before the first step."""

from pathlib import Path

import pytest

from tests.support.latents import smooth_clips, write_dataset
from train.data.mix import read_datasets
from train.estimate.forecast import forecast
from train.estimate.scale import scale_of
from train.loop import train
from train.run.folder import TrainConfig

SMALL = {"model": {"width": 32, "depth": 1, "num_heads": 2}, "device": "cpu"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_dataset(tmp_path_factory.mktemp("scale") / "dataset", smooth_clips(8)))


def config(steps: int, token_budget: int, packs_per_step: int = 1) -> TrainConfig:
    plan = {"token_budget": token_budget, "packs_per_step": packs_per_step}
    return TrainConfig.model_validate({**SMALL, "steps": steps, "data": {"plan": plan}})


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "train.estimate.scale"]


def test_what_is_said_of_a_run_is_what_its_plan_does(dataset: str) -> None:
    chosen = config(100, 16_384)
    manifest = read_datasets(dataset, split="train", data=chosen.data, model=chosen.model)
    scale = scale_of(chosen, manifest)
    assert scale.fill == pytest.approx(manifest.num_tokens.sum() / 16_384)
    assert (scale.num_epochs, scale.meetings) == (100, 100), "one pack holds all clips"
    assert scale.smallest_budget == manifest.num_tokens.sum()
    told = forecast(config(100, scale.smallest_budget), dataset)
    assert told.token_efficiency == 1
    assert (told.num_epochs, told.meetings) == (100, 100)


def test_empty_packs_and_many_epochs_are_warned_of_with_the_setting(
    dataset: str, caplog: pytest.LogCaptureFixture
) -> None:
    forecast(config(400_000, 16_384), dataset)
    fill, steps = said(caplog)
    assert "% full" in fill
    assert "train.data.plan.token_budget" in fill
    assert steps.startswith("400000 steps are 400000 epochs of 8 clips, each seen 400000 times")
    assert "train.steps=1000 " in steps


def test_training_warns_too_and_says_nothing_of_what_fits(
    dataset: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(config(1, 16_384), dataset, tmp_path / "run")
    assert len(said(caplog)) == 1
    caplog.clear()
    forecast(config(900, 64), dataset)
    assert not said(caplog)
