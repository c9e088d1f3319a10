"""What the caption stage costs on top of its model, and whether it became faster: ratios, in one run.

    python -m benchmarks.caption_throughput DATASET [--clips 16] [--rounds 2] [--old CHECKOUT] [--requests 640]

- model: the whole stage ÷ the bare backend on the same requests, in transformers (the embedded captioner).
- endpoint: the stage ÷ a bare client with as many threads as requests are in flight, against a server on loopback
  whose latencies are lognormal around 0.4 s.
- encode: latents with the next clip decoded beside the autoencoder ÷ one clip after the other, if there are latents.
- old: the stage of this checkout ÷ that of another one (`git worktree add CHECKOUT COMMIT`), and whether texts are
  equal.

DATASET has its shards cut, such as the demo's. Both sides of a ratio take turns, and the shortest time of each counts:
wall time, and CPU time for `old`. Processes that load the machine change wall time more.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.machine import described
from caption.backends.base import CaptionBackend, CaptionRequest
from caption.backends.embedded import EmbeddedConfig
from caption.captioner import CaptionStage
from caption.config import CaptionConfig
from caption.item import CaptionItem
from curate.media.encode import encode_mp4
from curate.shards.tar import write_tar
from pipelines.execute.base import Resources
from pipelines.execute.local import LocalExecutor
from tests.support.caption_server import MODEL, CaptionServer
from train.autoencoder.clip import EncodeItem
from train.autoencoder.config import EncodeConfig
from train.autoencoder.encode import EncodeStage

FIELDS = ("clip_id", "shard", "offset", "size", "kind")
MEDIAN_S, SIGMA = 0.4, 0.35
"""Of the latencies: a tenth take more than 0.63 s."""
NUM_IN_FLIGHT = 64

OLD = """
import json, sys, time
import pyarrow.parquet as pq
from caption.captioner import CaptionConfig, CaptionItem, CaptionStage
shards, count, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
rows = pq.read_table(f"{shards}/index.parquet").to_pylist()[:count]
items = [CaptionItem(**{name: row[name] for name in ("clip_id", "shard", "offset", "size", "kind")}) for row in rows]
stage = CaptionStage(CaptionConfig(), shards)
stage.setup()
wall, cpu = time.perf_counter(), time.process_time()
outcomes = [one for start in range(0, len(items), 16) for one in stage.process(items[start:start + 16])]
spent = [time.perf_counter() - wall, time.process_time() - cpu]
texts = {f"{r.clip_id} {r.kind}": r.text for one in outcomes if isinstance(one, tuple) for r in one}
json.dump([spent, texts], open(out, "w"))
"""


@dataclass(kw_only=True)
class Spent:
    """Shortest wall and CPU seconds of several rounds."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    def time(self, work: Callable[[], Any]) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        result = work()
        self.wall_s.append(time.perf_counter() - wall)
        self.cpu_s.append(time.process_time() - cpu)
        return result

    def __str__(self) -> str:
        return f"{min(self.wall_s):.2f} s wall, {min(self.cpu_s):.2f} s CPU"


class Recording:
    """A backend that keeps what it is asked, call by call."""

    def __init__(self, backend: CaptionBackend) -> None:
        self._backend, self.calls = backend, list[list[CaptionRequest]]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def caption(self, requests: Sequence[CaptionRequest]) -> Any:
        self.calls.append(list(requests))
        return self._backend.caption(requests)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--old", help="another checkout")
    parser.add_argument("--requests", type=int, default=640, help="for the server")
    arguments = parser.parse_args()
    print(described(), flush=True)
    endpoint(arguments.requests, arguments.rounds)
    shards = f"{Path(arguments.dataset).resolve()}/shards"
    rows = pq.read_table(f"{shards}/index.parquet").to_pylist()[: arguments.clips]
    items = [CaptionItem(**{name: row[name] for name in FIELDS}) for row in rows]
    here, texts = model(items, shards, arguments.rounds)
    for record in Path(arguments.dataset).glob("latents/*/fingerprint.json"):
        encode(json.loads(record.read_text())["config"], rows, shards, arguments.rounds)
    if arguments.old:
        old(arguments.old, shards, len(items), arguments.rounds, here, texts)


def model(items: Sequence[CaptionItem], shards: str, rounds: int) -> tuple[Spent, dict[str, str]]:
    stage = CaptionStage(CaptionConfig(backend=EmbeddedConfig(device="cpu")), shards)
    stage.setup()
    bare_backend: Any = stage._backend
    stage._backend = recording = Recording(bare_backend)
    whole, bare = Spent(), Spent()
    outcomes: list[Any] = []
    for _ in range(rounds):
        bare_backend.forget()  # what it computed of the other side's frames
        recording.calls.clear()
        outcomes = whole.time(lambda: run(stage, items))
        bare_backend.forget()
        bare.time(lambda: [bare_backend.caption(call) for call in recording.calls])
    report("model: bare backend ÷ whole stage", bare, whole)
    return whole, {f"{one.clip_id} {one.level}": one.text for outcome in outcomes for one in outcome.records}


def run(stage: CaptionStage, items: Sequence[CaptionItem]) -> list[Any]:
    return [outcome for _, outcome in LocalExecutor().run(stage, items, Resources(batch_size=stage.batch_size))]


def endpoint(num_requests: int, rounds: int) -> None:
    """Two requests per clip; clips of 12 small frames: the machine is to wait for the server."""
    with tempfile.TemporaryDirectory() as shards, served() as url:
        members = write_tar(f"{shards}/train-000000.tar", clips(num_requests // 2))
        items = [
            CaptionItem(clip_id=one.key, shard=one.shard, offset=one.offset, size=one.size, kind="video")
            for one in members
        ]
        backend = {"kind": "openai", "base_url": url, "model": MODEL, "num_in_flight": NUM_IN_FLIGHT}
        settings = {"prompts": "plain-v1", "max_attempts": 1, "checks": {"visible": None}, "frames": {"num_frames": 2}}
        stage = CaptionStage(CaptionConfig.model_validate({"backend": backend, **settings}), shards)
        stage.setup()
        bare_backend: Any = stage._backend
        recording = Recording(bare_backend)
        stage._backend = recording
        whole, bare = Spent(), Spent()
        for _ in range(rounds):
            recording.calls.clear()
            whole.time(lambda: run(stage, items))
            with ThreadPoolExecutor(NUM_IN_FLIGHT) as client:
                bare.time(lambda: list(client.map(bare_backend.caption, recording.calls)))
        report(f"endpoint: bare client ÷ stage, {NUM_IN_FLIGHT} in flight", bare, whole)
        print(f"  {len(recording.calls)} requests; the server alone needs {least_s(len(recording.calls)):.2f} s")


def encode(config: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], shards: str, rounds: int) -> None:
    stage = EncodeStage(EncodeConfig.model_validate(config), shards)
    stage.setup()
    items = [EncodeItem(**{name: row[name] for name in FIELDS}) for row in rows]
    ahead, alone = Spent(), Spent()
    for _ in range(rounds):
        here = ahead.time(lambda: [one for _, one in LocalExecutor().run(stage, items, Resources(batch_size=1))])
        there = alone.time(lambda: [one for item in items for one in stage.process([item])])
        assert all(np.array_equal(one.latent, other.latent) for one, other in zip(here, there, strict=True))
    report("encode: one after the other ÷ ahead", alone, ahead)


def clips(count: int) -> Iterator[tuple[str, dict[str, bytes]]]:
    noise = np.random.default_rng(0)
    for number in range(count):
        frames = noise.integers(0, 255, (12, 48, 64, 3), dtype=np.uint8)
        yield f"{number:032x}", {"mp4": encode_mp4(frames, 12)}


def latency_s() -> float:
    return random.lognormvariate(np.log(MEDIAN_S), SIGMA)


def least_s(num_requests: int) -> float:
    return num_requests * MEDIAN_S * float(np.exp(SIGMA**2 / 2)) / NUM_IN_FLIGHT


class served:
    """A server in a process of its own, as a real one has its own."""

    def __enter__(self) -> str:
        ours, theirs = get_context("spawn").Pipe()
        self._process = get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        return str(ours.recv())

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()


def _serve(pipe: Any) -> None:
    def answer(body: Any) -> str:
        time.sleep(latency_s())
        return f"A film of noise, number {random.random()}, in which nothing else can be seen."

    with CaptionServer(answer) as server:
        pipe.send(server.url)
        time.sleep(10**6)


def old(checkout: str, shards: str, count: int, rounds: int, here: Spent, texts: dict[str, str]) -> None:
    spent, theirs = Spent(), dict[str, str]()
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        for _ in range(rounds):
            command = [sys.executable, "-c", OLD, shards, str(count), out.name]
            environment = {**os.environ, "PYTHONPATH": checkout}
            subprocess.run(command, cwd=checkout, env=environment, check=True, stderr=subprocess.DEVNULL)
            (wall_s, cpu_s), theirs = json.loads(Path(out.name).read_text())
            spent.wall_s.append(wall_s)
            spent.cpu_s.append(cpu_s)
    report("old ÷ this checkout", spent, here)
    unequal = sorted(name for name in theirs if theirs[name] != texts.get(name))
    print(f"  {len(theirs)} texts, {len(unequal)} of them unequal{': ' if unequal else ''}{', '.join(unequal[:8])}")


def report(name: str, upper: Spent, lower: Spent) -> None:
    wall, cpu = min(upper.wall_s) / min(lower.wall_s), min(upper.cpu_s) / min(lower.cpu_s)
    print(f"{name}: {wall:.3f} by wall time, {cpu:.3f} by CPU time ({upper}; {lower})", flush=True)


if __name__ == "__main__":
    main()
