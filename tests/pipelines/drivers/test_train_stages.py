"""A training in stages: each begins with the weights of the one before, and what is done is not done again."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from pipelines.cli import main
from pipelines.config import Config
from pipelines.drivers.train_stages import train_stages
from pipelines.stages import read_stages
from tests.support.latents import smooth_clips, write_dataset
from train.monitor.metrics import read_metrics

MODEL = {"width": 32, "depth": 1, "num_heads": 2, "position": "sincos"}
SHARED = {
    "model": MODEL,
    "device": "cpu",
    "data": {"plan": {"token_budget": 256}},
    "evaluate": {"held_out": {"every": 0}, "captions": {"every": 0}},
    "checkpoint": {"every": 2},
}


def write(folder: Path, **stages: dict[str, Any]) -> Path:
    (folder / "shared.yaml").write_text(yaml.safe_dump({"train": SHARED}))
    file = folder / "stages.yaml"
    file.write_text(
        yaml.safe_dump(
            {"dataset": str(folder / "dataset"), "config": "shared.yaml", "stages": stages}, sort_keys=False
        )
    )
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "dataset", smooth_clips(12, num_val=2))
    return tmp_path


def command(file: Path, out: Path) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["train-stages", str(file), "--out", str(out)])
    return int(str(ended.value.code))


def test_a_stage_begins_with_the_averaged_weights_of_the_one_before_and_what_is_done_stays(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    still = {"optimizer": {"lr": 1e-9, "warmup_steps": 0}}
    file = write(folder, low={"train": {"steps": 4}}, high={"train": {"steps": 2, "seed": 1, **still}})
    out = folder / "out"
    assert command(file, out) == 0
    assert capsys.readouterr().out.rstrip().endswith(f"{out}/high")
    low, high = (load_file(out / name / "model/model.safetensors") for name in ("low", "high"))
    assert low.keys() == high.keys()
    for name in low:  # a rate of nothing: the second stage ends where it began
        torch.testing.assert_close(low[name], high[name], rtol=0, atol=1e-6)
    config = yaml.safe_load((out / "high/config.yaml").read_text())
    assert (config["init"], config["optimizer"]["lr"], config["seed"]) == (str(out / "low/model"), 1e-9, 1)
    files = {path: path.stat().st_mtime_ns for path in out.rglob("model.safetensors")}
    assert command(file, out) == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("model.safetensors")} == files
    assert [len(read_metrics(out / name / "metrics.jsonl")) for name in ("low", "high")] == [4, 2]


def test_a_training_that_was_stopped_between_stages_is_the_whole_one(folder: Path) -> None:
    from pipelines.drivers.train import train_here

    stages = read_stages(write(folder, low={"train": {"steps": 4}}, high={"train": {"steps": 4}}))
    for _ in train_stages(stages, str(folder / "whole"), train_here):
        pass

    def stopped(datasets: Sequence[str], run: str, config: Config) -> Any:
        if run.endswith("high"):
            steps = config.train.model_copy(update={"steps": 2})
            train_here(datasets, run, config.model_copy(update={"train": steps}))
            raise KeyboardInterrupt
        return train_here(datasets, run, config)

    with pytest.raises(KeyboardInterrupt):
        list(train_stages(stages, str(folder / "parts"), stopped))
    assert [stage.name for stage, _ in train_stages(stages, str(folder / "parts"), train_here)] == ["low", "high"]
    models = [load_file(folder / name / "low/model/model.safetensors") for name in ("whole", "parts")]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])
    rows = [read_metrics(folder / name / "high/metrics.jsonl") for name in ("whole", "parts")]
    assert [row["loss"] for row in rows[0]] == [row["loss"] for row in rows[1]]
    told = json.loads((folder / "parts/high/run.json").read_text())
    assert "steps" in str(told["changes"])


def test_a_stage_with_a_model_of_its_own_begins_new(folder: Path) -> None:
    wider = {"train": {"steps": 1, "init": str(folder / "elsewhere"), "model": {"width": 64}}}
    first, second = read_stages(write(folder, low={"train": {"steps": 1}}, high=wider))
    assert (first.continues, second.continues, first.encodes) == (False, False, False)
    assert (second.config.train.model.width, second.config.train.model.depth) == (64, 1)


@pytest.mark.parametrize(
    ("stages", "told"),
    [
        ({"low": {"train": {"stepz": 1}}}, r"stage low: .*stepz.*steps"),
        (
            {"low": {"train": {}}, "high": {"train": {"model": {"width": 64}}}},
            r"stage high begins with.*width 64, before 32",
        ),
        (
            {"low": {"train": {}}, "high": {"train": {"model": {"kind": "unet"}}}},
            r"is a unet, that of stage low a dit",
        ),
        ({"low": {"trian": {}}}, r"trian.*expected dataset, config and stages"),
        ({"../low": {"train": {}}}, r"expected letters, digits"),
        ({}, r"stages"),
    ],
)
def test_all_stages_are_checked_before_the_first_step(folder: Path, stages: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read_stages(write(folder, **stages))


def test_a_file_that_is_none_and_a_stage_without_a_dataset_are_refused(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("[1, 2]")
    (tmp_path / "bare.yaml").write_text("stages: {low: {train: {steps: 1}}}")
    for name, told in (("none", "cannot be read"), ("list", "has no `stages:`"), ("bare", "stage low has no dataset")):
        with pytest.raises(ValueError, match=told):
            read_stages(tmp_path / f"{name}.yaml")
    with pytest.raises(ValueError, match="expected one that all machines see"):
        list(train_stages([], "s3://bucket/out", lambda *_: None))
