"""Frames per second of the scan pass, beside decoding and scaling the same file with nothing else done.

    python -m benchmarks.scan [VIDEO] [--rounds 5]

The three readings of a round follow one another, so that what else runs on the machine hits them alike; the ratio is
the median over the rounds. Promise: scan <= 1.25 x decode + scale.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.machine import described
from curate.media.frames import iter_frames
from curate.media.probe import content_id, probe
from curate.media.stream import VideoReader
from curate.scan import ScanConfig, scan

DEMO_VIDEO = Path(__file__).parent.parent / "pipelines" / "demo_media" / "bbb_a.mp4"
PROMISED_RATIO = 1.25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", nargs="?", default=str(DEMO_VIDEO))
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    path, config = arguments.video, ScanConfig()
    video = probe(path, path, content_id(path))

    def decode() -> int:
        with VideoReader(path) as reader:
            return sum(1 for _ in reader.frames(video.time_base))

    def decode_and_scale() -> int:
        return sum(1 for _ in iter_frames(path, short_side_px=config.short_side_px, time_base=video.time_base))

    def scan_all() -> int:
        return scan(video, path, config).num_decoded_frames

    work = {"decode": decode, "decode + scale": decode_and_scale, "scan": scan_all}
    num_frames = scan_all()  # imports, and the file in the page cache
    rounds = [{name: seconds(run) for name, run in work.items()} for _ in range(arguments.rounds)]
    print(described())
    print(
        f"{Path(path).name}: {num_frames} frames of {video.width}x{video.height} {video.codec}, {len(rounds)} rounds"
    )
    for name in work:
        times = [spent[name][0] for spent in rounds]
        print(
            f"  {name:15} {num_frames / statistics.median(times):7.0f} frames/s (best {num_frames / min(times):.0f})"
        )
    wall, cpu = (median_ratio(rounds, clock) for clock in (0, 1))
    verdict = "kept" if wall <= PROMISED_RATIO else "MISSED"
    print(
        f"  scan takes {wall:.2f} x decode + scale (promised <= {PROMISED_RATIO}: {verdict}), {cpu:.2f} x its CPU time"
    )


def median_ratio(rounds: list[dict[str, tuple[float, float]]], clock: int) -> float:
    """Scan over decode + scale, of the wall clock (0) or of CPU time (1)."""
    return statistics.median(spent["scan"][clock] / spent["decode + scale"][clock] for spent in rounds)


def seconds(run: Callable[[], int]) -> tuple[float, float]:
    """Wall-clock and CPU seconds; the latter counts all threads, and waits for no other process."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


if __name__ == "__main__":
    main()
