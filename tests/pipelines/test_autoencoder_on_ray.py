"""`train-autoencoder` as a Ray Train job on a private Ray: of two workers one is killed, and nothing differs."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.config import Config, load_config
from pipelines.drivers.train_autoencoder import train_autoencoder
from tests.pipelines.drivers.test_train_autoencoder import TINY
from tests.support.curated import curated
from tests.support.forks import run_ranks
from tests.support.rays import death_of_a_worker, patient_environment, run_with_ray
from train.monitor.metrics import read_metrics

ROOT = Path(__file__).parents[2]


def _train(settings: Config, dataset: str, out: Path) -> None:
    train_autoencoder(dataset, out, settings)


def _rows(out: Path) -> list[dict[str, Any]]:
    return [{name: row[name] for name in row if name != "seconds"} for row in read_metrics(out / "metrics.jsonl")]


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(1800)
def test_a_run_whose_worker_is_killed_learns_the_same(tmp_path: Path) -> None:
    dataset = curated(tmp_path).url
    settings = [*TINY, "train_autoencoder.steps=8", "train_autoencoder.checkpoint.every=3", "execute.num_cpus=2"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    ended = run_ranks(2, load_config(overrides=settings), dataset, whole, _train)
    assert [one.code for one in ended] == [0, 0], ended
    words = ["-m", "pipelines.train_autoencoder", dataset, "--out", str(killed), "--workers", "2"]
    words += [word for setting in settings for word in ("--set", setting)]
    death = death_of_a_worker("step-000006", tmp_path / "died")
    done = run_with_ray(words, patient_environment() | {"PYTHONPATH": str(ROOT)} | death)
    assert (tmp_path / "died").exists() and f"{killed}/weights" in done.stdout, done.stdout + done.stderr
    assert _rows(killed) == _rows(whole)
    for name in ("model.safetensors", "config.json"):
        assert (killed / "weights" / name).read_bytes() == (whole / "weights" / name).read_bytes()
