"""What is told of a step adds up, and is measured."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.train.test_loop import config, on_ranks
from train.data.load import PackLoader
from train.data.mix import read_datasets
from train.data.plan import Cursor
from train.loop import train
from train.monitor import meter
from train.monitor.metrics import MEASURED, read_metrics
from train.objective.flow import RectifiedFlow
from train.optim.ema import EMA
from train.run.config import ParallelConfig, TrainConfig
from train.run.folder import load_model


def steps_of(run: Path) -> list[dict[str, Any]]:
    return [row for row in read_metrics(run / "metrics.jsonl") if "loss" in row]


def test_waiting_is_part_of_a_step_and_flops_over_seconds_are_the_share_of_the_peak(dataset: str, tmp_path: Path):
    seen: list[dict[str, Any]] = []
    summary = train(config(log__peak_tflops=0.5), dataset, tmp_path, on_step=seen.append)
    rows = steps_of(tmp_path)
    assert len(rows) == 8
    for row in rows:
        assert row.keys() >= MEASURED
        assert 0 < row["loader_wait_s"] < row["seconds"]
        assert row["rank_idle_s"] == 0.0
        assert row["mfu"] == pytest.approx(row["tflop"] / row["seconds"] / 0.5)
        assert row["memory_gib"] > 0.1
    stalls = {row["step"]: row["checkpoint_stall_s"] for row in rows}
    assert stalls[1] == 0.0 and min(stalls[4], stalls[7]) > 10 * stalls[3] > 0  # saved after 3 and 6
    assert {row["step"]: row["tflop"] for row in seen if "loss" in row} == {row["step"]: row["tflop"] for row in rows}
    busy = sum(row["mfu"] * row["seconds"] for row in rows)
    assert summary.mfu == pytest.approx(busy / sum(row["seconds"] for row in rows))
    assert summary.checkpoint_stall_s == max(row["checkpoint_stall_s"] for row in rows)


def test_without_a_known_peak_there_is_no_utilization(dataset: str, tmp_path: Path):
    summary = train(config(steps=2), dataset, tmp_path)
    assert summary.mfu is None and [row["mfu"] for row in steps_of(tmp_path)] == [None, None]
    assert summary.rank_idle == 0.0 and 0 < summary.loader_wait < 1


def test_the_pass_of_self_conditioning_is_counted(dataset: str, tmp_path: Path):
    settings = config(steps=1, model__self_conditioning=0.5)
    train(settings, dataset, tmp_path)
    manifest = read_datasets(dataset, split="train", data=settings.data, model=settings.model)
    loader = PackLoader(manifest, settings.objective.build(), settings.data, model=settings.model, seed=settings.seed)
    model, _, _ = load_model(tmp_path, weights="model")
    flops = sum(model.flops(batch) for batch in next(loader.steps(Cursor(), 0, 1)).batches)
    assert steps_of(tmp_path)[0]["tflop"] == pytest.approx(4 * flops / 1e12)


def test_what_a_device_still_does_when_a_step_ends_is_in_its_seconds(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The optimizer is launched last, and nothing after it waits but the exchange of figures."""
    now, left = 0.0, 0.0

    def launch(*_: object, **__: object) -> None:
        nonlocal left
        left += 5.0

    def wait(_: object) -> None:
        nonlocal now, left
        now, left = now + left, 0.0

    monkeypatch.setattr(meter.time, "perf_counter", lambda: now)
    monkeypatch.setattr(meter, "settle", wait)
    monkeypatch.setattr(EMA, "update", launch)
    train(config(steps=2, log__peak_tflops=0.5), dataset, tmp_path)
    for row in steps_of(tmp_path):
        assert row["seconds"] == 5.0
        assert row["tokens_per_s"] == row["tokens"] / 5
        assert row["mfu"] == pytest.approx(row["tflop"] / 5 / 0.5)


def on_a_clock_of_packs(settings: TrainConfig, dataset: str, out: Path) -> None:
    """The clock of the throughput monitor shows how many packs this process was trained on."""
    now, plain = 0, RectifiedFlow.token_losses

    def counted(*args: Any) -> torch.Tensor:
        nonlocal now
        now += torch.is_grad_enabled()
        return plain(*args)

    RectifiedFlow.token_losses = counted  # type: ignore[method-assign]
    meter.time = SimpleNamespace(perf_counter=lambda: now)
    train(settings, dataset, out)


def test_ranks_with_unlike_work_are_seen_to_wait(dataset: str, tmp_path: Path):
    """Three packs on two ranks: one of them has half of the other's work; four packs: the same work."""
    rows = {}
    for packs in (3, 4):
        settings = config(
            steps=3, data__plan__packs_per_step=packs, evaluate__held_out__first=0, evaluate__held_out__every=100
        )
        on_ranks(2, settings, dataset, tmp_path / str(packs), on_a_clock_of_packs)
        rows[packs] = steps_of(tmp_path / str(packs))
        assert [row["seconds"] for row in rows[packs]] == [2, 2, 2]
    assert [row["rank_idle_s"] for row in rows[3]] == [0.5] * 3, "one of two waits for one second"
    assert [row["rank_idle_s"] for row in rows[4]] == [0.0] * 3
    train(settings, dataset, tmp_path / "one")
    assert [row["tflop"] for row in rows[4]] == pytest.approx([row["tflop"] for row in steps_of(tmp_path / "one")])
    on_ranks(2, settings.model_copy(update={"parallel": ParallelConfig(mode="fsdp")}), dataset, tmp_path / "sharded")
    assert [row["rank_idle_s"] for row in steps_of(tmp_path / "sharded")] == [None] * 3


@pytest.mark.slow
def test_weights_and_biases_gets_the_figures_and_a_continued_run_its_page(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    settings = {"optimizer__schedule": "constant", "log__wandb": "reelpack-test"}
    train(config(steps=3, **settings), dataset, tmp_path / "run")
    train(config(steps=6, **settings), dataset, tmp_path / "run")
    page = (tmp_path / "run/wandb.id").read_text()
    written = sorted(path.name for path in (tmp_path / "run/wandb").glob("offline-run-*/*.wandb"))
    assert written == [f"run-{page}.wandb"] * 2
    deadline = time.monotonic() + 30  # wandb's own process writes, and may be behind
    while min(path.stat().st_size for path in (tmp_path / "run/wandb").glob("offline-run-*/*.wandb")) < 1000:
        assert time.monotonic() < deadline, "the figures of a run are not written"
        time.sleep(0.1)


def test_the_peak_of_a_process_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`ru_maxrss` begins at that of the process that started it (`findings/ru_maxrss_of_a_child.sh`)."""
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmPeak:\t  9000 kB\nVmHWM:\t  1234 kB\n")
    monkeypatch.setattr(meter, "STATUS", status)
    assert meter.peak_memory(torch.device("cpu")) == 1234 * 1024
