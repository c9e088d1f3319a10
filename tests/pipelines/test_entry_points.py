"""How commands are started, and end: usage lines, ranks of torchrun, Ctrl-C, Ray that does not start."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import cli
from pipelines.console.interrupted import Interrupted, of_run, stays, told_by
from pipelines.drivers import train as train_dit
from pipelines.execute import ray_cluster
from pipelines.execute.base import ExecuteConfig
from pipelines.execute.ray_cluster import connect
from pipelines.execute.ray_train import failed_by
from pipelines.inputs.sources import IN_JOB, kept_by_job
from tests.support.latents import smooth_clips, write_dataset


def run(*arguments: str) -> object:
    with pytest.raises(SystemExit) as stopped:
        cli.main(list(arguments))
    return stopped.value.code


@pytest.mark.parametrize(
    ("module", "missing"),
    [
        ("train", "DATASET"),
        ("caption", "DATASET"),
        ("pipelines.curate_videos", "INPUTS"),
        ("pipelines.train_dit", ""),
        ("pipelines.train_autoencoder", ""),
    ],
)
def test_a_module_prints_its_own_usage(
    module: str, missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [f"/somewhere/{module}/__main__.py"])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module(module, run_name="__main__", alter_sys=False)
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert f"Usage: python -m {module} [OPTIONS]" in said
    assert missing in said.upper()


@pytest.mark.parametrize("rank", ["0", "1"])
def test_one_rank_shows_the_table(
    rank: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = write_dataset(tmp_path / "dataset", smooth_clips(8))
    settings = ["train.model.width=32", "train.model.depth=1", "train.model.num_heads=2", "train.steps=1"]
    shown: list[object] = []
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr(train_dit, "train_here", lambda *_: "summary")
    monkeypatch.setattr("pipelines.commands.train.show", shown.append)
    words = [word for setting in settings for word in ("--set", setting)]
    assert run("train", str(dataset), "--out", str(tmp_path / "run"), *words) == 0
    assert shown == (["summary"] if rank == "0" else [])
    assert run("train", str(tmp_path / "nowhere"), "--out", str(tmp_path / "run"), "--set", "train.stps=1") == 2
    assert capsys.readouterr().err.count("rank 1: error:") == int(rank)


@pytest.mark.parametrize("rank", ["0", "1"])
def test_an_interruption_is_said_once_and_ends_as_shells_expect(
    rank: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr(train_dit, "train_here", interrupted)
    assert run("train", "dataset", "--out", str(tmp_path / "run")) == 130
    said = capsys.readouterr().err
    assert said.count("interrupted: ") == (rank == "0")
    assert "has no checkpoint yet" in said or rank == "1"


def test_what_stays_of_a_run_is_its_last_checkpoint(tmp_path: Path) -> None:
    for name in ("step-000010", "step-000020"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
        (tmp_path / "checkpoints" / name / ".metadata").touch()
    with pytest.raises(Interrupted, match="has the checkpoint step-000020; the same command"), stays(of_run, tmp_path):
        raise KeyboardInterrupt
    assert told_by(ValueError()) is None


@pytest.mark.parametrize("error", [Exception("The current node timed out during startup."), RuntimeError("no GCS")])
def test_a_ray_that_does_not_start_is_one_message(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")

    def init(**_: object) -> None:
        raise error

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ConnectionError, match=r"Ray did not start on this machine .*--executor local"):
        connect(ExecuteConfig())
    assert ray_cluster.check_address(ExecuteConfig()) == "local"


def test_a_relative_path_in_a_job_is_refused_and_else_made_absolute(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert kept_by_job("run") == str(tmp_path / "run")
    monkeypatch.setenv(IN_JOB, "{}")
    assert kept_by_job("s3://bucket/run") == "s3://bucket/run"
    assert kept_by_job("/run") == "/run"
    with pytest.raises(ValueError, match="run: got a relative path"):
        kept_by_job("run")
    assert run("curate", str(tmp_path), "--out", "dataset") == 2


def test_a_training_on_ray_that_fails_is_one_line() -> None:
    class WorkerGroupError(Exception):
        worker_failures = {1: ValueError("later"), 0: ValueError("Traceback …\n  File …\nValueError: /data: no index")}  # noqa: RUF012

    assert failed_by(WorkerGroupError()) == "the training ended on rank 0: ValueError: /data: no index"
    assert failed_by(RuntimeError("controller is gone")) == "the training ended: controller is gone"


def test_heads_of_a_converted_model_can_be_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import torch

    torch.save({"x_embedder.proj.weight": torch.zeros(40, 4, 2, 2)}, tmp_path / "dit.pt")
    assert run("train-import", str(tmp_path / "dit.pt"), "--out", str(tmp_path / "out")) == 2
    assert "--num-heads" in capsys.readouterr().err
    assert run("train-import", str(tmp_path / "dit.pt"), "--out", str(tmp_path / "out"), "--num-heads", "4") == 2
    assert "the checkpoint has no" in capsys.readouterr().err


@pytest.mark.slow
def test_torchrun_prints_one_table(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", smooth_clips(8))
    settings = ["train.model.width=32", "train.model.depth=1", "train.model.num_heads=2", "train.steps=2",
                "train.device=cpu", "train.data.plan.packs_per_step=2"]  # fmt: skip
    words = [word for setting in settings for word in ("--set", setting)]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "train"]
    done = subprocess.run(
        [sys.executable, *torchrun, str(dataset), "--out", str(tmp_path / "run"), *words],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("real tokens per second") == 1


def test_what_ray_says_as_it_starts_is_kept_but_for_its_greeting(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ray = pytest.importorskip("ray")

    def init(**_: object) -> None:
        os.write(
            2, b"[I 1 1] logging.cc:303: Set ray log level from environment variable RAY_BACKEND_LOG_LEVEL to 3\n"
        )
        print("the disk is nearly full", file=sys.stderr)

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert connect(ExecuteConfig())
    assert capfd.readouterr().err.splitlines() == ["the disk is nearly full"]
