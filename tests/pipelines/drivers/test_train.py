"""A training as a Ray job."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pipelines.config import load_config
from pipelines.drivers.train import train_on_ray
from pipelines.execute.ray_train import read_workers
from tests.support.latents import smooth_clips, write_dataset

SETTINGS = ["model.width=64", "model.num_heads=4", "model.depth=2", "device=cpu", "steps=120", "checkpoint.every=10",
            "data.plan.token_budget=96", "data.plan.packs_per_step=6"]  # fmt: skip
LOST_NODE = """
import sys, time
from pathlib import Path
from threading import Thread

import ray
from ray.cluster_utils import Cluster

from pipelines.config import load_config
from pipelines.drivers.train import train_on_ray

dataset, out, settings = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
node = {"object_store_memory": 100 * 2**20, "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **node})
lost = cluster.add_node(num_cpus=1, **node)
ray.init(address=cluster.address)

def lose_a_node():
    metrics = out / "metrics.jsonl"
    while not metrics.exists() or len(metrics.read_text().splitlines()) < 25:
        time.sleep(0.2)
    cluster.remove_node(lost, allow_graceful=False)

Thread(target=lose_a_node, daemon=True).start()
train_on_ray(dataset, str(out), load_config(overrides=settings), workers=(1, 2), gpu=False)
"""


@pytest.mark.parametrize(("text", "workers"), [("1", 1), ("4", 4), ("2:8", (2, 8)), ("3:3", 3)])
def test_workers_are_a_number_or_a_range(text: str, workers) -> None:
    assert read_workers(text) == workers


@pytest.mark.parametrize("text", ["0", "", "two", "3:2", "1:2:3", "-1"])
def test_other_workers_are_one_message(text: str) -> None:
    with pytest.raises(ValueError, match="expected a number"):
        read_workers(text)


def test_more_workers_than_a_step_has_packs_are_refused_before_ray_starts(tmp_path: Path) -> None:
    config = load_config(overrides=["train.data.plan.packs_per_step=4"])
    with pytest.raises(ValueError, match="5 ranks cannot share a step of 4 packs"):
        train_on_ray("nowhere", str(tmp_path), config, workers=(2, 5), gpu=False)


@pytest.mark.slow
@pytest.mark.ray
def test_a_run_goes_on_with_fewer_workers_when_a_node_is_lost(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", smooth_clips(24, num_val=0))
    settings = [f"train.{setting}" for setting in SETTINGS]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"OMP_NUM_THREADS": "1", "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "10"}
    with tempfile.TemporaryDirectory(prefix="rp-", ignore_cleanup_errors=True) as short:  # sockets' paths are short
        done = subprocess.run(
            [sys.executable, "-c", LOST_NODE, str(dataset), str(tmp_path / "run"), *settings],
            env=environment | {"RAY_TMPDIR": short},
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, 121)), done.stdout + done.stderr
    states = sorted((tmp_path / "run/checkpoints").glob("step-*/state.json"))
    assert json.loads(states[-1].read_text())["world_size"] == 1
    assert "worker group of size 2" in done.stdout + done.stderr
