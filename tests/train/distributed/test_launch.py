"""The ways to start a training give the same run: here, `python -m train`. Ray Train: test_train_kill.py."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipelines.config import load_config
from train.loop import train

SETTINGS = {
    "steps": 6,
    "model": {"width": 32, "depth": 2, "num_heads": 2},
    "data": {"plan": {"token_budget": 64, "packs_per_step": 2}},
    "optimizer": {"lr": 0.003, "warmup_steps": 2},
}


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({"train": SETTINGS}))
    return path


def losses(run: Path) -> list[float]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


def launch(command: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, *command],
        env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_the_command_trains_as_the_function_does(dataset: str, config_file: Path, tmp_path: Path) -> None:
    train(load_config(config_file).train, dataset, tmp_path / "here")
    launch(["-m", "train", dataset, "--out", str(tmp_path / "there"), "--config", str(config_file)])
    assert losses(tmp_path / "there") == losses(tmp_path / "here")
