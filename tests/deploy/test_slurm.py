"""Batch scripts for Slurm, run with stand-ins for its two commands: `srun` starts its tasks on this machine."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.latents import smooth_clips, write_dataset
from train.run.checkpoint import list_checkpoints

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "deploy" / "slurm").glob("*.sbatch"))
BIN = Path(sys.executable).parent
LIMIT_S = 200
SRUN = """#!/usr/bin/env bash
# --ntasks and --nodelist are known, other options are left out; SIGTERM goes to every task.
count=$SLURM_NTASKS
while [[ $1 == --* ]]; do [[ $1 == --ntasks=* ]] && count=${1#--ntasks=}; shift; done
pids=()
for ((rank = 0; rank < count; rank++)); do
    SLURM_PROCID=$rank SLURM_LOCALID=$rank SLURM_NTASKS=$count "$@" &
    pids+=($!)
done
trap 'kill -TERM "${pids[@]}"' TERM
code=0
for pid in "${pids[@]}"; do
    wait "$pid"; one=$?
    while kill -0 "$pid" 2> /dev/null; do wait "$pid"; one=$?; done  # a signal ends `wait` early
    ((one > code)) && code=$one
done
exit "$code"
"""
SCONTROL = """#!/usr/bin/env bash
[[ $1 == show ]] && echo localhost || echo "$@" >> "$SCONTROL_LOG"
"""


def test_both_scripts_are_there() -> None:
    assert [script.name for script in SCRIPTS] == ["ray.sbatch", "train.sbatch"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_shellcheck_finds_nothing(script: Path) -> None:
    done = subprocess.run([BIN / "shellcheck", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")
    assert os.access(script, os.X_OK)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_without_a_command_says_what_it_expects(script: Path) -> None:
    done = subprocess.run(["bash", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr.startswith("expected")


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a batch job of one node and two tasks."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SLURM_"))}
    job = {"SLURM_JOB_ID": str(port), "SLURM_JOB_NODELIST": "localhost", "SLURM_NNODES": "1", "SLURM_NTASKS": "2"}
    job |= {"SLURM_CPUS_ON_NODE": "2", "SCONTROL_LOG": str(tmp_path / "scontrol.log"), "RAY_PORT": str(port)}
    job |= {"PATH": f"{folder}:{BIN}:{clean['PATH']}", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    # pytest's own folders are too deep: Ray's sockets must fit in 107 bytes.
    with tempfile.TemporaryDirectory(prefix="s-", ignore_cleanup_errors=True) as short:
        yield clean | job | {"TMPDIR": short}


def start(script: str, *words: str, env: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        command = ["bash", ROOT / "deploy" / "slurm" / script, *words]
        return subprocess.Popen(command, env=env, cwd=ROOT, stdout=out, stderr=out, start_new_session=True)


@pytest.mark.slow
def test_a_training_that_is_told_to_stop_is_saved_and_requeued(slurm: dict[str, str], tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", smooth_clips(12, num_val=2))
    settings = ["steps=100000", "device=cpu", "model={width: 32, num_heads: 2, depth: 1}", "evaluate.captions.every=0"]
    settings += ["data.plan={token_budget: 128, packs_per_step: 2}", "checkpoint.every=100000"]
    flags = [word for setting in settings for word in ("--set", f"train.{setting}")]
    run, log = tmp_path / "run", tmp_path / "log"
    job = start("train.sbatch", str(tmp_path / "data"), "--out", str(run), *flags, env=slurm, log=log)
    deadline = time.monotonic() + LIMIT_S
    while not (run / "metrics.jsonl").exists() or not (run / "metrics.jsonl").read_text():
        assert job.poll() is None and time.monotonic() < deadline, log.read_text()[-4000:]
        time.sleep(0.1)
    os.killpg(job.pid, signal.SIGTERM)  # as Slurm: to every process of the job's steps
    assert job.wait(LIMIT_S) == 143, log.read_text()[-4000:]
    assert len(list_checkpoints(run / "checkpoints")) == 1
    assert (tmp_path / "scontrol.log").read_text() == f"requeue {slurm['SLURM_JOB_ID']}\n"


@pytest.mark.slow
@pytest.mark.ray
def test_a_command_runs_on_a_ray_of_its_own_with_a_token(slurm: dict[str, str], tmp_path: Path) -> None:
    script = (
        "import os, ray; ray.init(log_to_driver=False); print('cpus', ray.cluster_resources()['CPU']); "
        "print('mode', os.stat(os.environ['RAY_AUTH_TOKEN_PATH']).st_mode & 0o777); raise SystemExit(7)"
    )
    log = tmp_path / "log"
    job = start("ray.sbatch", "python", "-c", script, env=slurm, log=log)
    try:
        assert job.wait(LIMIT_S) == 7, log.read_text()[-4000:]
        assert "cpus 2.0" in log.read_text() and f"mode {0o600}" in log.read_text()
        assert not list(tmp_path.glob(".reelpack-ray-*"))
    finally:
        with suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)
