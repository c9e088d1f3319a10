"""`train-autoencoder` as a Ray Train job on a private Ray: of two workers one is killed, and nothing differs."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from pipelines.config import Config, load_config
from pipelines.drivers.train_autoencoder import train_autoencoder
from tests.pipelines.drivers.test_train_autoencoder import TINY
from tests.support.curated import curated
from tests.support.forks import run_ranks
from train.monitor.metrics import read_metrics

KILLED = """
import os, signal, sys, time
from pathlib import Path
from threading import Thread

from pipelines.config import load_config
from pipelines.drivers.train_autoencoder import train_on_ray
from tests.support.processes import command_line, descendants

dataset, out, settings = sys.argv[1], sys.argv[2], sys.argv[3:]

def kill_a_worker():
    while len(list(Path(out, "checkpoints").glob("step-*/checksums.json"))) < 1:
        time.sleep(0.02)
    workers = [pid for pid in descendants(os.getpid()) if command_line(pid).startswith("ray::RayTrainWorker")]
    os.kill(workers[0], signal.SIGKILL)
    print("killed one of", len(workers), flush=True)

Thread(target=kill_a_worker, daemon=True).start()
print(train_on_ray(dataset, out, load_config(overrides=settings), workers=2, gpu=False))
"""


def _train(settings: Config, dataset: str, out: Path) -> None:
    train_autoencoder(dataset, out, settings)


def _rows(out: Path) -> list[dict[str, Any]]:
    return [{name: row[name] for name in row if name != "seconds"} for row in read_metrics(out / "metrics.jsonl")]


@pytest.mark.slow
@pytest.mark.ray
def test_a_run_whose_worker_is_killed_learns_the_same(tmp_path: Path) -> None:
    dataset = curated(tmp_path).url
    settings = [*TINY, "train_autoencoder.steps=60", "train_autoencoder.checkpoint.every=3", "execute.num_cpus=2"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    ended = run_ranks(2, load_config(overrides=settings), dataset, whole, _train)
    assert [one.code for one in ended] == [0, 0], ended
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with tempfile.TemporaryDirectory(prefix="rp-", ignore_cleanup_errors=True) as short:  # sockets' paths are short
        done = subprocess.run(
            [sys.executable, "-c", KILLED, dataset, str(killed), *settings],
            env=environment | {"OMP_NUM_THREADS": "1", "RAY_TMPDIR": short},
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
    assert "killed one of 2" in done.stdout and f"{killed}/weights" in done.stdout, done.stdout + done.stderr
    assert _rows(killed) == _rows(whole)
    for name in ("model.safetensors", "config.json"):
        assert (killed / "weights" / name).read_bytes() == (whole / "weights" / name).read_bytes()
