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
from pathlib import Path

from benchmarks.machine import described
from tests.support.corpus import shot, write
from tests.support.engine import run_steps
from tests.support.processes import IS_KIND, Tree, resident_mib

ROOT = Path(__file__).parent.parent
PROMISED_S = 60.0
PROMISED_CLIPS = 100_000
TINY_S = 1.0
TINY_ENCODING = {"crf": "30", "preset": "ultrafast"}
DRIVER_KIB_PER_INPUT = 16
"""The driver holds what the tables hold, a few rows per input: that, and no frames."""
WORKER_GROWTH = 0.1
POLL_S = 0.1


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
    parts = Parts(profile)
    counts, page = run_steps(folder, num_clips, kind, embedding_dim, parts.timed)
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
    command += ["--set", "score.scorers=null", "--set", "execute.num_cpus=2"]
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
