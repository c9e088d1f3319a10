"""Metrics that a process serves: what was counted, over HTTP, on loopback, where it is asked for."""

import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from curate.media.counter import count_bytes, count_frame
from curate.storage.publish import write_text
from pipelines.config import Config, load_config
from pipelines.drivers.train import train_here
from pipelines.execute.base import ExecuteConfig, Resources
from pipelines.execute.build import open_executor
from pipelines.monitor.metrics import METRICS, TrainMetrics
from pipelines.monitor.prometheus import PrometheusSink, served
from tests.support.latents import smooth_clips, write_dataset
from tests.support.stages import Doubling


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
    return number


def page(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def values(sink: PrometheusSink) -> dict[str, float]:
    return {sample.name: sample.value for family in sink.registry.collect() for sample in family.samples}


class Reading(Doubling):
    """Reads two bytes and a quarter of a second of video for each item."""

    def process(self, items: Any) -> Any:
        for _ in items:
            count_bytes(2)
            count_frame(0.25)
        return super().process(items)


@pytest.mark.parametrize("in_threads", [False, True])
def test_a_local_step_serves_its_outcomes_and_what_it_read(port: int, in_threads: bool) -> None:
    config = ExecuteConfig(executor="local", num_workers=2, metrics_port=port)
    with open_executor(config) as executor:
        list(executor.run(Reading({7: "raise"}), range(20), Resources(in_threads=in_threads)))
        seen = page(port)
    step = Reading.step
    assert seen[f'reelpack_items_total{{outcome="ok",step="{step}"}}'] == 19
    assert seen[f'reelpack_items_total{{outcome="model",step="{step}"}}'] == 1
    assert seen[f'reelpack_items_left{{step="{step}"}}'] == 0
    assert seen[f'reelpack_read_bytes_total{{step="{step}"}}'] == 40
    assert seen[f'reelpack_video_seconds_total{{step="{step}"}}'] == 5
    with pytest.raises(urllib.error.URLError):
        page(port)


def test_nothing_is_served_unless_a_port_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prometheus_client.start_http_server", None)
    with served(ExecuteConfig()) as sinks:
        assert sinks == ()
    assert ExecuteConfig().metrics_host == "127.0.0.1"


def test_a_port_that_is_taken_is_named(port: int) -> None:
    config = ExecuteConfig(metrics_port=port)
    taken = pytest.raises(ValueError, match=f"metrics_port={port}: .* in use")
    with served(config), taken, served(config):
        pass


def test_published_bytes_are_counted(tmp_path: Path) -> None:
    from curate.media.counter import counts

    before = counts()["written_bytes"]
    write_text(str(tmp_path / "a"), "12345")
    write_text("memory://written/a", "123")
    assert counts()["written_bytes"] - before == 8


def test_a_training_serves_its_steps(port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(tmp_path / "data", smooth_clips(12, num_val=2))
    settings = ["steps=4", "device=cpu", "model={width: 32, num_heads: 2, depth: 1}", "data.plan.token_budget=128"]
    config = load_config(overrides=[*(f"train.{setting}" for setting in settings), f"execute.metrics_port={port}"])
    pages: list[dict[str, float]] = []
    monkeypatch.setattr("curate.report.run.build_run_report", lambda run: pages.append(page(port)))
    summary = train_here(str(tmp_path / "data"), str(tmp_path / "run"), config)
    seen = pages[-1]
    assert seen['reelpack_train_steps_total{run="run"}'] == seen['reelpack_train_step{run="run"}'] == 4
    assert seen['reelpack_train_tokens_total{run="run"}'] == summary.tokens
    assert seen['reelpack_train_val_loss{run="run"}'] == pytest.approx(summary.evaluated_last["val_loss"])
    assert seen['reelpack_train_memory_bytes{run="run"}'] > 2**20


def test_a_skipped_step_is_counted_and_its_loss_is_not_shown() -> None:
    sink = PrometheusSink()
    row = dict.fromkeys(("samples", "tokens", "seconds", "loader_wait_s", "checkpoint_stall_s", "memory_gib"), 1.0)
    row |= {"step": 1, "loss": 2.0, "grad_norm": 3.0, "mfu": None, "token_efficiency": 0.5, "skipped": False}
    metrics = TrainMetrics([sink], "s3://bucket/runs/a/")
    metrics.count(row)
    metrics.count(row | {"step": 2, "loss": float("nan"), "grad_norm": float("inf"), "skipped": True})
    seen = values(sink)
    assert (seen["reelpack_train_step"], seen["reelpack_train_skipped_steps_total"]) == (2, 1)
    assert (seen["reelpack_train_loss"], seen["reelpack_train_grad_norm"]) == (2, 3)
    assert sink.registry.get_sample_value("reelpack_train_step", {"run": "a"}) == 2
    assert "reelpack_train_mfu_ratio" not in seen


def test_every_metric_can_be_made() -> None:
    families = {family.name for family in PrometheusSink().registry.collect()}
    assert families == METRICS.keys()


def test_the_port_is_no_part_of_what_a_dataset_is_repeated_with() -> None:
    from pipelines.dataset import OF_A_MACHINE

    changed = Config().execute.model_dump().keys()
    assert {"metrics_port", "metrics_host"} <= {*OF_A_MACHINE} <= changed
