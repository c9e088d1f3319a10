"""The scan pass beside decoding alone, beside PySceneDetect, and in parts on two cores.

    python -m benchmarks.scan [VIDEO] [--rounds 5] [--minutes 8]

The readings of a round follow one another, so that what else runs on the machine hits them alike; ratios are medians
over the rounds. Promises: the scan takes at most 1.25 times what decoding and scaling take with nothing else done; it
takes less than PySceneDetect's own command line, which only finds the cuts; and of a long file, made of VIDEO by
repeating it, two cores scan at least 1.7 times as much as one.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from pathlib import Path

from benchmarks.machine import described
from benchmarks.memory import repeat
from curate.media.frames import iter_frames
from curate.media.probe import content_id, probe
from curate.media.stream import VideoReader
from curate.scan import Identified, IdentifyStage, Measured, ScanConfig, ScanStage, SourceFile, assemble, scan
from curate.scanned import Scanned
from curate.schema import Failure, Video

DEMO_VIDEO = Path(__file__).parent.parent / "pipelines" / "demo" / "media" / "bbb_a.mp4"
CONFIG = ScanConfig()
MOST_OVER_DECODING = 1.25
LEAST_OF_TWO_CORES = 1.7

Seconds = tuple[float, float]
"""Of the wall clock, and of the CPU by all threads."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", nargs="?", default=str(DEMO_VIDEO))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=8, help="length of the long file; 0 leaves it out")
    parser.add_argument("--only-scan", action="store_true", help=argparse.SUPPRESS)  # what is set beside a command
    arguments = parser.parse_args()
    path = arguments.video
    video = probe(path, path, content_id(path))
    if arguments.only_scan:
        scan(video, path, CONFIG)
        return
    print(described())
    num_frames = beside_decoding(video, path, arguments.rounds)
    beside_pyscenedetect(path, num_frames, arguments.rounds)
    if arguments.minutes:
        with tempfile.TemporaryDirectory() as folder:
            film = Path(folder) / "film.mp4"
            repeat(Path(path), film, max(1, round(arguments.minutes * 60 / (video.duration_s or 60))))
            on_two_cores(str(film), max(1, arguments.rounds // 2))


def beside_decoding(video: Video, path: str, num_rounds: int) -> int:
    def decode() -> int:
        with VideoReader(path) as reader:
            return sum(1 for _ in reader.frames(video.time_base))

    def decode_and_scale() -> int:
        return sum(1 for _ in iter_frames(path, short_side_px=CONFIG.short_side_px, time_base=video.time_base))

    def scan_all() -> int:
        return scan(video, path, CONFIG).num_decoded_frames

    num_frames = scan_all()  # imports, and the file in the page cache
    print(f"{Path(path).name}: {num_frames} frames of {video.width}x{video.height} {video.codec}")
    times = rounds({"decode": decode, "decode + scale": decode_and_scale, "scan": scan_all}, num_rounds)
    show(times, num_frames)
    over, over_cpu = (ratio(times, "scan", "decode + scale", clock) for clock in (0, 1))
    print(f"  scan takes {over:.2f} x decode + scale ({promise(over <= MOST_OVER_DECODING, '<= 1.25')}), ", end="")
    print(f"{over_cpu:.2f} x its CPU time")
    return num_frames


def beside_pyscenedetect(path: str, num_frames: int, num_rounds: int) -> None:
    """Both as commands, with their start and imports."""
    command = shutil.which("scenedetect") or str(Path(sys.executable).parent / "scenedetect")
    if not Path(command).exists():
        print("  PySceneDetect's command line is not installed: not compared")
        return
    theirs = [command, "--quiet", "-i", path, "detect-adaptive", "list-scenes", "-n"]
    ours = [sys.executable, "-m", "benchmarks.scan", path, "--only-scan"]
    root = Path(__file__).parent.parent
    commands: dict[str, Callable[[], object]] = {
        "PySceneDetect": lambda: subprocess.run(theirs, check=True, capture_output=True, cwd=root),
        "scan (command)": lambda: subprocess.run(ours, check=True, capture_output=True, cwd=root),
    }
    times = rounds(commands, num_rounds)
    show(times, num_frames)
    over = ratio(times, "scan (command)", "PySceneDetect", 0)
    print(f"  the scan takes {over:.2f} x PySceneDetect's command line ({promise(over < 1, '< 1')})")


def on_two_cores(film: str, num_rounds: int) -> None:
    """One process on one core in one pass, and two, each on its own core, on parts; all of them started before."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print("  one core only: parts are not compared")
        return
    with workers(cores[:1]) as one, workers(cores[:2]) as two:
        wholes, assembled = [], []
        times = rounds(
            {
                "one core": lambda: wholes.append(scan_by(one, film, None)),
                "two cores": lambda: assembled.append(scan_by(two, film, CONFIG.part_s)),
            },
            num_rounds,
        )
    assert all(outcome == wholes[0] for outcome in [*wholes, *assembled]), "the parts gave something else"
    num_frames = wholes[0].num_decoded_frames
    print(f"the same for {num_frames / float(wholes[0].video.fps) / 60:.1f} minutes, {num_frames} frames")
    show(times, num_frames)
    gain = ratio(times, "one core", "two cores", 0)
    print(f"  two cores scan {gain:.2f} x as fast as one ({promise(gain >= LEAST_OF_TWO_CORES, '>= 1.7')})")


@contextmanager
def workers(cores: list[int]) -> Iterator[ProcessPoolExecutor]:
    """A process per core, bound to it and warm."""
    context = get_context("spawn")
    free = context.SimpleQueue()
    for core in cores:
        free.put(core)
    with ProcessPoolExecutor(len(cores), context, initializer=take_core, initargs=(free,)) as pool:
        warm = [pool.submit(scan_part, SourceFile(uri="", path=str(DEMO_VIDEO), size_bytes=0)) for _ in cores]
        for future in warm:
            assert isinstance(future.result(), Scanned)
        yield pool


def take_core(free: "SimpleQueue[int]") -> None:
    os.sched_setaffinity(0, {free.get()})


def scan_by(pool: ProcessPoolExecutor, film: str, part_s: float | None) -> Scanned:
    config = CONFIG.model_copy(update={"part_s": part_s})
    (identified,) = IdentifyStage(config).process([SourceFile(uri=film, path=film, size_bytes=0)])
    assert isinstance(identified, Identified)
    file = SourceFile(uri=film, path=film, size_bytes=0, video_id=identified.video_id)
    outcomes = list(pool.map(scan_part, [replace(file, part=part) for part in identified.parts]))
    measured = [outcome for outcome in outcomes if not isinstance(outcome, Scanned)]
    outcome = assemble(measured, CONFIG) if measured else outcomes[0]
    assert isinstance(outcome, Scanned), outcome
    return outcome


def scan_part(item: SourceFile) -> Scanned | Measured | Failure:
    return ScanStage(CONFIG).process([item])[0]


def rounds(work: dict[str, Callable[[], object]], count: int) -> dict[str, list[Seconds]]:
    times: dict[str, list[Seconds]] = {name: [] for name in work}
    for _ in range(count):
        for name, run in work.items():
            times[name].append(seconds(run))
    return times


def seconds(run: Callable[[], object]) -> Seconds:
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def ratio(times: dict[str, list[Seconds]], one: str, other: str, clock: int) -> float:
    return statistics.median(a[clock] / b[clock] for a, b in zip(times[one], times[other], strict=True))


def show(times: dict[str, list[Seconds]], num_frames: int) -> None:
    for name, spent in times.items():
        walls = [wall for wall, _ in spent]
        rate, best = num_frames / statistics.median(walls), num_frames / min(walls)
        print(f"  {name:15} {rate:7.0f} frames/s (best {best:.0f}, {len(walls)} rounds)")


def promise(is_kept: bool, text: str) -> str:
    return f"promised {text}: {'kept' if is_kept else 'MISSED'}"


if __name__ == "__main__":
    main()
