"""What the engine costs by itself: 100,000 clip rows scored by scorers that do nothing, selected and reported.

    python -m benchmarks.engine [--clips 100000] [--executor local] [--embedding-dim 0]
    python -m benchmarks.engine --memory 1000,10000

The first form fills the tables of scanned videos and clips with generated rows, and then runs the steps of `curate`
and `report` on them as they are, with a stage of four scorers that returns numbers without decoding anything. Left out
are hence listing, scanning and cutting, which work on files. Promise: 60 s for 100,000 clips.

The second form curates as many tiny files as said, from listing to shards, each time in a fresh process, and prints
the peak memory of the driver and of its largest worker.
"""

import argparse
import cProfile
import os
import pstats
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa

from benchmarks.machine import described
from curate.dataset.dataset import Dataset
from curate.dataset.schemas import CLIPS
from curate.dedup.frame_hash import TICKS_PER_SECOND
from curate.report.build import build_report
from curate.schema import Failure, FailureKind, Span, clip_id, content_digest
from curate.scores.score import Scored, ScoreItem, ScoreStage
from curate.select import funnel
from pipelines.config import load_config
from pipelines.execute.build import open_executor
from pipelines.steps.decide import clips_of, decide, read_stored
from pipelines.steps.run import CurateRun
from pipelines.steps.score import score
from tests.support.corpus import shot, write
from tests.support.processes import IS_KIND, Tree, resident_mib

ROOT = Path(__file__).parent.parent
PROMISED_S = 60.0
PROMISED_CLIPS = 100_000
CLIPS_PER_VIDEO = 100
CLIP_S = 3
FPS = 24
COPY_FRACTION = 0.02
TINY_S = 1.0
TINY_ENCODING = {"crf": "30", "preset": "ultrafast"}
DRIVER_KIB_PER_INPUT = 16
"""The driver holds what the tables hold, a few rows per input: that, and no frames."""
WORKER_GROWTH = 0.1
POLL_S = 0.1


class NoScorers:
    """A score stage whose scorers return numbers made from the clip's id: 4 columns, and an embedding if asked for."""

    step = "score"

    def __init__(self, embedding_dim: int) -> None:
        self.embedding_dim = embedding_dim

    @property
    def families(self) -> dict[str, dict[str, pa.DataType]]:
        numbers = {f"nothing_{n}-{'0' * 12}": {f"nothing_{n}": pa.float64()} for n in range(4)}
        if not self.embedding_dim:
            return numbers
        return {**numbers, f"embedding-{'0' * 12}": {"embedding": pa.list_(pa.float32(), self.embedding_dim)}}

    def setup(self) -> None:
        pass

    def process(self, items: Sequence[ScoreItem]) -> list[Scored | Failure]:
        return [self._score(item.clip.clip_id) for item in items]

    def give_up(self, item: ScoreItem, kind: FailureKind, detail: str, attempts: int) -> Failure:
        return Failure(subject=item.clip.clip_id, step=self.step, kind=kind, detail=detail, attempts=attempts)

    def _score(self, name: str) -> Scored:
        rng = np.random.default_rng(int(name[:16], 16))
        values: dict[str, dict] = {f"nothing_{n}-{'0' * 12}": {f"nothing_{n}": float(rng.random())} for n in range(4)}
        if self.embedding_dim:
            vector = rng.normal(size=self.embedding_dim)
            values[f"embedding-{'0' * 12}"] = {"embedding": (vector / np.linalg.norm(vector)).tolist()}
        return Scored(clip_id=name, values=values, num_decoded_frames=0)


# --- 100,000 rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=PROMISED_CLIPS)
    parser.add_argument("--executor", choices=["local", "ray"], default="local")
    parser.add_argument("--embedding-dim", type=int, default=0, help="also an embedding of so many numbers; 0: none")
    parser.add_argument("--profile", action="store_true", help="print where each part spends its time")
    parser.add_argument("--memory", help="numbers of inputs, such as 1000,10000: measure memory instead")
    arguments = parser.parse_args()
    print(described())
    with tempfile.TemporaryDirectory(prefix="engine-", ignore_cleanup_errors=True) as folder:
        if arguments.memory:
            counts = [int(count) for count in arguments.memory.split(",")]
            sys.exit(0 if memory(Path(folder), counts, arguments.executor) else 1)
        kept = overhead(folder, arguments.clips, arguments.executor, arguments.embedding_dim, arguments.profile)
        sys.exit(0 if kept else 1)


def overhead(folder: str, num_clips: int, kind: str, embedding_dim: int, profile: bool) -> bool:
    """Run the steps and print the seconds of each; whether the promise was kept."""
    config = load_config(overrides=[f"execute.executor={kind}", "execute.num_cpus=2", "score.scorers=[]"])
    dataset, stage, parts = Dataset(f"{folder}/dataset"), NoScorers(embedding_dim), Parts(profile)
    videos, clips = scanned_rows(num_clips, config.scan.key)
    with parts.timed("publish videos and clips"):
        dataset.clips.publish(clips)
        dataset.videos.publish(videos)
    run = CurateRun(dataset, config, "reelpack retry", {row["uri"]: row["version"] for row in videos})
    with parts.timed("read the clips to score"):
        to_score = clips_of(dataset, config.scan.key)
    with parts.timed(f"score, {kind} executor"), open_executor(config.execute) as executor:
        score(run, executor, to_score, cast(ScoreStage, stage))  # it has all that is asked of one
    with parts.timed("read, join, find duplicates"):
        stored = read_stored(dataset, config, stage.families)
    with parts.timed("select"):
        decided = decide(dataset, stored, config, stage.families)
    made_with = {"families": list(stage.families), **config.model_dump(mode="json")}
    dataset.save_section("curate", {"inputs": [], **made_with})
    with parts.timed("index"):
        dataset.write_index(config.shards.key)
    with parts.timed("report"):
        page = Path(build_report(dataset.url))
    counts = funnel(decided)
    scored = dataset.scores(*next(iter(stage.families.items()))).read().num_rows
    assert counts["clips"] == scored == num_clips, f"got {counts['clips']} decided and {scored} scored clips"
    print(f"  {num_clips:,} clips: {counts.get('keep', 0):,} kept, {counts['reject']:,} rejected, ", end="")
    print(f"{counts.get('reject:duplicate', 0):,} of them as duplicates; report {page.stat().st_size / 2**20:.1f} MiB")
    limit_s = PROMISED_S * num_clips / PROMISED_CLIPS
    verdict = "kept" if parts.wall_s <= limit_s else "MISSED"
    print(f"  {parts.wall_s:.1f} s in all (promised <= {limit_s:.0f}: {verdict}), {parts.cpu_s:.1f} s of CPU here")
    return parts.wall_s <= limit_s


class Parts:
    """A stopwatch for the parts of a run: prints each as it ends, with a profile if asked for.

    Attributes:
        wall_s: seconds of all parts so far.
        cpu_s: CPU seconds of this process in them, which other work on the machine lengthens less.
    """

    def __init__(self, profile: bool) -> None:
        self.profile = profile
        self.wall_s = self.cpu_s = 0.0

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        profiler = cProfile.Profile()
        wall, cpu = time.perf_counter(), time.process_time()
        if self.profile:
            profiler.enable()
        yield
        profiler.disable()
        wall_s, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
        self.wall_s, self.cpu_s = self.wall_s + wall_s, self.cpu_s + cpu_s
        print(f"  {name:32} {wall_s:6.1f} s, {cpu_s:6.1f} s of CPU", flush=True)
        if self.profile:
            pstats.Stats(profiler).sort_stats("cumulative").print_stats(25)


def scanned_rows(num_clips: int, scan_key: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of the videos and the clips tables: films of 100 clips of 3 s, a few of which are copies."""
    rng = np.random.default_rng(0)
    ticks, time_base = CLIP_S * FPS * 512, Fraction(1, FPS * 512)
    videos, clips = [], []
    hashes = rng.integers(1, 2**64, (num_clips, CLIP_S * TICKS_PER_SECOND), dtype=np.uint64)
    copies, originals = np.split(rng.permutation(num_clips)[: 2 * round(COPY_FRACTION * num_clips)], 2)
    hashes[copies] = hashes[originals] ^ np.uint64(5)  # two bits of 64 differ
    signals = [field.name for field in CLIPS if pa.types.is_floating(field.type)]
    # Shares of black, frozen and covered time are small where a film is any good.
    values = rng.random((num_clips, len(signals))) ** [20 if "fraction" in name else 1 for name in signals]
    for number in range(num_clips):
        video, place = divmod(number, CLIPS_PER_VIDEO)
        video_id = content_digest(f"video {video}")
        if place == 0:
            length = min(CLIPS_PER_VIDEO, num_clips - number)
            videos.append(_video(video, video_id, scan_key, length * CLIP_S))
        span = Span(start_pts=place * ticks, end_pts=(place + 1) * ticks, time_base=time_base)
        known = {
            "clip_id": clip_id(video_id, span),
            "video_id": video_id,
            "scan_key": scan_key,
            "kind": "video",
            "start_pts": span.start_pts,
            "end_pts": span.end_pts,
            "time_base": str(time_base),
            "fps": str(FPS),
            "width": 1280,
            "height": 720,
            "num_frames": CLIP_S * FPS,
            "frame_hashes": hashes[number].tobytes(),
        }
        clips.append({**dict(zip(signals, values[number].tolist(), strict=True)), **known})
    return videos, clips


def _video(number: int, video_id: str, scan_key: str, duration_s: float) -> dict[str, Any]:
    return {
        "uri": f"/films/{number:06d}.mp4",
        "version": "1",
        "scan_key": scan_key,
        "outcome": "ok",
        "video_id": video_id,
        "size_bytes": round(duration_s * 500_000),
        "kind": "video",
        "width": 1280,
        "height": 720,
        "fps": str(FPS),
        "duration_s": float(duration_s),
    }


# --- many inputs


def memory(folder: Path, counts: Sequence[int], kind: str) -> bool:
    """Curate so many tiny files; prints peaks of driver and workers, and whether they stay as the number grows."""
    peaks = []
    for count in counts:
        videos = folder / f"videos_{count}"
        videos.mkdir()
        for number in range(count):
            write(videos / f"{number:06d}.mp4", shot(number, TINY_S, height=64, width=64), options=TINY_ENCODING)
        driver, worker, seconds = peak_mib(folder, videos, kind)
        peaks.append((driver, worker))
        print(
            f"  {count:6,} inputs: driver {driver:5.0f} MiB, largest worker {worker:5.0f} MiB, {seconds:.0f} s",
            flush=True,
        )
    (driver_few, worker_few), (driver_many, worker_many) = peaks[0], peaks[-1]
    per_input = (driver_many - driver_few) * 1024 / max(1, counts[-1] - counts[0])
    worker_growth = worker_many / worker_few - 1 if worker_few else 0.0
    kept = per_input <= DRIVER_KIB_PER_INPUT and worker_growth <= WORKER_GROWTH
    print(f"  the driver grows by {per_input:.1f} KiB per input (promised <= {DRIVER_KIB_PER_INPUT}), ", end="")
    print(
        f"the largest worker by {worker_growth:.0%} (promised <= {WORKER_GROWTH:.0%}): {'kept' if kept else 'MISSED'}"
    )
    return kept


def peak_mib(folder: Path, videos: Path, kind: str) -> tuple[float, float, float]:
    """Private memory of the driver and of the largest worker of a `reelpack curate`, and its seconds."""
    out, log = folder / f"{videos.name}_dataset", folder / f"{videos.name}.log"
    command = [sys.executable, "-m", "pipelines.cli", "curate", str(videos), "--out", str(out), "--executor", kind]
    command += ["--set", "score.scorers=[]", "--set", "execute.num_cpus=2"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    env |= {"RAY_TMPDIR": str(folder), "PYTHONPATH": str(ROOT)}
    driver = worker = 0.0
    with Tree(command, env=env, cwd=ROOT, log=log) as tree:
        while tree.is_running():
            driver = max(driver, resident_mib(tree.driver.pid))
            workers = [pid for pid, line in tree.pids().items() if IS_KIND["worker"](line)]
            worker = max([worker, *map(resident_mib, workers)])
            time.sleep(POLL_S)
        seconds = tree.seconds
    if tree.driver.returncode != 0:
        raise SystemExit(f"curate ended with {tree.driver.returncode}:\n{log.read_text()[-2000:]}")
    return driver, worker, seconds


if __name__ == "__main__":
    # Workers of Ray find the stage by the name of its module, which must not be `__main__`.
    from benchmarks.engine import main as run

    run()
