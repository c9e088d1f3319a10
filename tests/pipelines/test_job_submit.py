"""The four jobs on a real Ray head with a dashboard and token authentication, all of it private to this test."""

import json
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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import fsspec
import pytest

from curate.dataset.captions import caption_column
from curate.dataset.dataset import Dataset
from curate.media.decode import decode_clip
from curate.shards.tar import TarReader, read_member
from curate.storage.place import AnyPath, path_of
from pipelines.config import load_config
from pipelines.drivers.caption import caption
from tests.support.caption_server import MODEL, CaptionServer
from tests.support.curated import copied, curated
from tests.support.object_store import SECRET, serve_s3
from tests.support.videos import moving, write_video
from tests.support.vlm_checkpoints import write_checkpoint
from train.data.manifest import read_manifest
from train.monitor.metrics import read_metrics
from train.run.checkpoint import list_checkpoints
from train.run.folder import load_model

pytestmark = [pytest.mark.ray, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
RAY = Path(sys.executable).with_name("ray")
HEAD_START_LIMIT_S = 90
JOB_LIMIT_S = 240
TEXT = "Colored tiles drift slowly to the left."


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """A running head: where its dashboard listens, and the environment a client needs."""

    address: str
    env_with_token: dict[str, str]
    env_without_token: dict[str, str]

    def submit(
        self, entrypoint: list[str], env: dict[str, str], options: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[str]:
        command = [str(RAY), "job", "submit", "--address", self.address, "--working-dir", ".", *options]
        command += ["--", *entrypoint]
        deadline = time.monotonic() + HEAD_START_LIMIT_S
        while True:
            done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=JOB_LIMIT_S)
            # The dashboard answers some seconds before the agent that runs jobs is there.
            if "No available agent" not in done.stderr + done.stdout or time.monotonic() > deadline:
                return done
            time.sleep(2)

    def ray(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command of Ray about this head's jobs."""
        env = self.env_with_token | {"RAY_API_SERVER_ADDRESS": self.address}
        return subprocess.run([str(RAY), *words], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def store() -> Iterator[dict[str, str]]:
    with serve_s3() as env:
        yield env


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory, store: dict[str, str]) -> Iterator[Head]:
    home = tmp_path_factory.mktemp("home")
    token = home / "token"
    token.write_text(secrets.token_hex(32))
    # Ray's own variables of whoever runs the tests, and their ~/.ray/auth_token, stay out of it.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    clean.pop("PYTHONPATH", None)  # the code of a job comes with the job
    clean |= store  # as of a machine's role: no job says its credentials
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


@pytest.mark.timeout(4 * JOB_LIMIT_S)
def test_four_jobs_make_a_model_in_a_bucket(
    head: Head, store: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Videos, DATASET and RUN are in the bucket; training on two workers is stopped once, and resumes there."""
    for name, value in store.items():
        monkeypatch.setenv(name, value)
    for seed in range(1, 6):
        write_video(tmp_path / "videos" / f"{seed}.mp4", moving(seed, 1.5))
    (tmp_path / "videos" / "notes.mp4").write_text("this is no video")
    fs = fsspec.filesystem("s3", use_listings_cache=False)
    fs.mkdir("films")
    fs.put(f"{tmp_path}/videos", "films", recursive=True)
    dataset, run = Dataset("s3://films/dataset"), path_of("s3://films/run")
    said: list[str] = []

    def submit(module: str, *words: str, settings: Sequence[str], options: Sequence[str] = ()) -> None:
        flags = [word for setting in settings for word in ("--set", setting)]
        job = head.submit(["python", "-m", f"pipelines.{module}", *words, *flags], head.env_with_token, options)
        said.append(job.stdout + job.stderr)
        assert job.returncode == 0, said[-1][-8000:]

    cheap = ["scan.detector.kind=adaptive", "score.scorers=null", "select.rules.short_side_px.min=16"]
    split = 'select.split={val_fraction: 0, hold_out: ["*/5.mp4"]}'
    submit("curate_videos", "s3://films/videos", "--out", dataset.url, settings=[*cheap, split])
    index = dataset.read_index()
    assert sorted(index["split"].to_pylist()) == ["train"] * 4 + ["val"]
    payload = read_member(TarReader(dataset.layout.shards), index.to_pylist()[0])
    assert decode_clip(payload).rgb.shape == (18, 96, 128, 3)
    assert [row["kind"] for row in dataset.failures.rows()] == ["not_media"]

    with CaptionServer(lambda body: TEXT) as server:
        backend = ["caption.backend.kind=openai", f"caption.backend.base_url={server.url}"]
        backend += [f"caption.backend.model={MODEL}", "caption.prompts=plain-v1", "caption.checks={}"]
        submit("caption_clips", dataset.url, "--executor", "ray", settings=backend)
    assert set(dataset.read_index()[caption_column("short")].to_pylist()) == {
        "Colored tiles drift slowly to the left."
    }

    submit("encode_latents", dataset.url, "--executor", "ray", settings=["encode.max_area_px=6144"])
    manifest = read_manifest(dataset.url, split="train", patch=(1, 2, 2))
    assert len(manifest) == 4 and manifest.has_texts

    small = ["model={width: 32, num_heads: 2, depth: 1}", "device=cpu", "checkpoint.every=2"]
    small += ["data.plan={token_budget: 512, packs_per_step: 2}", "optimizer.schedule=constant"]
    small = [f"train.{setting}" for setting in [*small, "evaluate.captions.every=0"]]
    words = [dataset.url, "--out", str(run), "--workers", "2"]
    submit("train_dit", *words, settings=[*small, "train.steps=10000"], options=["--no-wait", "--submission-id=train"])
    deadline = time.monotonic() + JOB_LIMIT_S
    while not list_checkpoints(run / "checkpoints"):
        assert time.monotonic() < deadline, head.ray("job", "logs", "train").stdout[-8000:]
        time.sleep(0.2)
    head.ray("job", "stop", "train")
    begun = newest_step(run)
    submit("train_dit", *words, settings=[*small, f"train.steps={begun + 4}"])
    rows = read_metrics(run / "metrics.jsonl")
    assert [row["step"] for row in rows if "loss" in row] == [*range(1, begun + 5)]
    assert newest_step(run) == begun + 4 == json.loads((run / "summary.json").read_text())["steps"]
    newest = list_checkpoints(run / "checkpoints")[-1]
    assert json.loads((newest / "state.json").read_text())["world_size"] == 2
    model, _, record = load_model(run)
    assert model.config.width == 32 and record.changes[0]["after"] == f"step-{begun:06d}"

    objects = [fs.cat_file(name) for name in fs.find("films")]
    assert not any(SECRET.encode() in data for data in objects)
    assert SECRET not in "".join([*said, head.ray("job", "list").stdout])


def newest_step(run: AnyPath) -> int:
    return int(list_checkpoints(run / "checkpoints")[-1].name.removeprefix("step-"))


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
