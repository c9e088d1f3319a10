"""Curation and captioning as jobs on a real Ray head with a dashboard and token authentication, all of it private to
this test."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from curate.dataset.dataset import Dataset
from curate.media.decode import decode_clip
from curate.shards.tar import TarReader, read_member
from pipelines.config import load_config
from pipelines.drivers.caption import caption
from tests.support.curated import copied, curated
from tests.support.videos import moving, write_video
from tests.support.vlm_checkpoints import write_checkpoint

pytestmark = [pytest.mark.ray, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
RAY = Path(sys.executable).with_name("ray")
HEAD_START_LIMIT_S = 90
JOB_LIMIT_S = 240


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """A running head: where its dashboard listens, and the environment a client needs."""

    address: str
    env_with_token: dict[str, str]
    env_without_token: dict[str, str]

    def submit(self, entrypoint: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        command = [str(RAY), "job", "submit", "--address", self.address, "--working-dir", ".", "--", *entrypoint]
        deadline = time.monotonic() + HEAD_START_LIMIT_S
        while True:
            done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=JOB_LIMIT_S)
            # The dashboard answers some seconds before the agent that runs jobs is there.
            if "No available agent" not in done.stderr + done.stdout or time.monotonic() > deadline:
                return done
            time.sleep(2)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    home = tmp_path_factory.mktemp("home")
    token = home / "token"
    token.write_text(secrets.token_hex(32))
    # Ray's own variables of whoever runs the tests, and their ~/.ray/auth_token, stay out of it.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    clean |= {"HOME": str(home), "OMP_NUM_THREADS": "1", "PATH": f"{RAY.parent}{os.pathsep}{clean['PATH']}"}
    clean.setdefault("XDG_CACHE_HOME", str(Path.home() / ".cache"))  # the embedded weights are where they were
    with_token = {**clean, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    port, dashboard_port, agent_port = _free_ports(3)
    # pytest's own folders are too deep: Ray's sockets must fit in 107 bytes.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as ray_dir:
        command = [str(RAY), "start", "--head", "--block", "--num-cpus=2", "--disable-usage-stats"]
        command += [f"--port={port}", f"--dashboard-port={dashboard_port}", "--dashboard-host=127.0.0.1"]
        # The agent, which runs jobs, has a fixed port by default: another Ray on this machine may hold it.
        command += [f"--dashboard-agent-listen-port={agent_port}"]
        command += [f"--temp-dir={ray_dir}", f"--object-store-memory={256 * 2**20}", "--include-dashboard=true"]
        log = home / "head.log"
        with log.open("w") as out:
            process = subprocess.Popen(
                command, env=with_token, stdout=out, stderr=out, start_new_session=True, cwd=home
            )
        try:
            address = f"http://127.0.0.1:{dashboard_port}"
            _wait_for_dashboard(address, process, log)
            yield Head(address=address, env_with_token=with_token, env_without_token=clean)
        finally:
            _end_group(process)


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, outside 10002..19999, which Ray gives to its workers."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for candidate in sockets:
            candidate.bind(("127.0.0.1", 0))
        return [candidate.getsockname()[1] for candidate in sockets]
    finally:
        for candidate in sockets:
            candidate.close()


def _wait_for_dashboard(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + HEAD_START_LIMIT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except urllib.error.HTTPError:
            return  # it answers: without a token, with a refusal
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"no dashboard at {address} after {HEAD_START_LIMIT_S} s:\n{log.read_text()[-4000:]}")


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End the head and what it started: the process group of this test, nothing else."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            return
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            continue


def _write_video(path: Path) -> None:
    """Three seconds of 96x64 noise that drifts: one shot, bright, in motion."""
    texture = np.random.default_rng(7).integers(60, 200, (64, 160, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for shift in range(36):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(texture[:, shift : shift + 96]), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_submit_without_a_token_is_refused(head: Head) -> None:
    refused = head.submit(["python", "-c", "print('ran')"], head.env_without_token)
    assert refused.returncode != 0
    assert "Missing authentication token" in refused.stdout + refused.stderr
    assert "submitted successfully" not in refused.stdout + refused.stderr


def test_submit_with_a_wrong_token_is_refused(head: Head) -> None:
    wrong = {**head.env_with_token, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    refused = head.submit(["python", "-c", "print('ran')"], wrong)
    assert refused.returncode != 0
    assert "token is invalid" in refused.stdout + refused.stderr


def test_submitted_curation_writes_its_decisions(head: Head, tmp_path: Path) -> None:
    videos, dataset = tmp_path / "videos", tmp_path / "dataset"
    videos.mkdir()
    _write_video(videos / "drift.mp4")
    (videos / "notes.mp4").write_text("this is no video")

    job = head.submit(
        ["python", "-m", "pipelines.curate_videos", str(videos), "--out", str(dataset)], head.env_with_token
    )

    assert job.returncode == 0, (job.stdout + job.stderr)[-8000:]
    (clip,) = pq.read_table(dataset / "clips.parquet").to_pylist()
    assert Path(clip["video_uri"]).name == "drift.mp4"
    assert (clip["decision"], clip["num_frames"]) == ("keep", 36)
    (row,) = pq.read_table(dataset / "shards" / "index.parquet").to_pylist()
    payload = read_member(TarReader(str(dataset / "shards")), row)
    assert row["clip_id"] == clip["clip_id"]
    assert decode_clip(payload).rgb.shape == (36, 64, 96, 3)
    failed = pq.read_table(dataset / "tables" / "failures").to_pylist()
    assert {(Path(failure["subject"]).name, failure["kind"]) for failure in failed} == {("notes.mp4", "not_media")}


def test_submitted_captioning_writes_the_records_of_a_local_run(head: Head, tmp_path: Path) -> None:
    """Other batches, in two workers, in another process: no clip has the captions of another."""
    videos = tmp_path / "films"
    for seed in range(5, 9):
        write_video(videos / f"{seed}.mp4", moving(seed, 1.5))
    here = curated(tmp_path)
    there = copied(here, tmp_path / "there")
    settings = ["caption.frames.num_frames=1", "caption.short_max_tokens=4", "caption.dense_max_tokens=6"]
    settings += [f"caption.backend.model={write_checkpoint('llava', tmp_path / 'model')}", "caption.prompts=plain-v1"]
    family = caption(here.url, load_config(overrides=[*settings, "execute.executor=local"])).family
    assert family is not None

    words = [word for setting in (*settings, "caption.batch_size=1") for word in ("--set", setting)]
    job = head.submit(
        ["python", "-m", "pipelines.caption_clips", there.url, "--executor", "ray", *words], head.env_with_token
    )

    assert job.returncode in (0, 1), (job.stdout + job.stderr)[-8000:]  # 1: no text of this random model is used
    written = _records(there.dataset, family)
    assert len({row["clip_id"] for row in written}) == 6
    assert written == _records(here.dataset, family)


def _records(dataset: Dataset, family: str) -> list[dict[str, object]]:
    unlike = {"provenance"}  # paths and library versions are those of the worker
    return [
        {name: value for name, value in row.items() if name not in unlike} for row in dataset.captions(family).rows()
    ]
