"""Sampled access: eight frames of a clip by `sample_frames` (PyAV), beside decord on the same moments.

    python -m benchmarks.sample [VIDEO] [--clips 12]

Prints milliseconds and CPU milliseconds per clip, and the most memory each decoder held in a process of its own. Why
reelpack samples with PyAV: docs/decisions/decoders.md.
"""

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import described
from curate.media.frames import iter_frames, shrink
from curate.media.probe import content_id, probe
from curate.media.sample import moments, sample_frames
from curate.schema import Span

DEMO_VIDEO = Path(__file__).parent.parent / "pipelines" / "demo" / "media" / "bbb_a.mp4"
NUM_FRAMES = 8
SHORT_SIDE_PX = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", nargs="?", default=str(DEMO_VIDEO))
    parser.add_argument("--clips", type=int, default=12)
    arguments = parser.parse_args()
    print(described())
    print(f"{Path(arguments.video).name}, {arguments.clips} clips of 2-6 s")
    for name, reader in READERS.items():
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            wall, cpu, peak_mib = pool.apply(measure, (reader, arguments.video, arguments.clips))
        print(f"  {name:22} {wall:6.0f} ms per clip, {cpu:6.0f} ms of CPU, {peak_mib:5.0f} MiB at most")


def measure(reader: "Callable[[str], Callable[[Span], object]]", path: str, count: int) -> tuple[float, float, float]:
    """Milliseconds and CPU milliseconds per clip, and the peak of the process in MiB."""
    video = probe(path, path, content_id(path))
    starts = [frame.pts for frame in iter_frames(path, short_side_px=32)]
    rng = np.random.default_rng(0)
    spans = []
    for _ in range(count):
        length = int(int(rng.integers(2, 7)) * video.fps)
        first = int(rng.integers(0, len(starts) - length))
        spans.append(Span(start_pts=starts[first], end_pts=starts[first + length], time_base=video.time_base))
    read = reader(path)
    read(spans[0])
    wall, cpu = time.perf_counter(), time.process_time()
    for span in spans:
        read(span)
    spent = (time.perf_counter() - wall, time.process_time() - cpu)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return spent[0] / count * 1000, spent[1] / count * 1000, peak_mib


def by_pyav(path: str) -> Callable[[Span], object]:
    return lambda span: sample_frames(path, span, NUM_FRAMES, short_side_px=SHORT_SIDE_PX)


def by_decord(path: str) -> Callable[[Span], object]:
    return lambda span: _decord_frames(_decord_reader(path), span)


def by_decord_kept_open(path: str) -> Callable[[Span], object]:
    reader = _decord_reader(path)
    return lambda span: _decord_frames(reader, span)


def _decord_reader(path: str) -> Any:
    import decord

    return decord.VideoReader(path, num_threads=2)


def _decord_frames(reader: Any, span: Span) -> np.ndarray:
    rate = reader.get_avg_fps()
    numbers = [int(moment * float(span.time_base) * rate) for moment in moments(span, NUM_FRAMES)]
    return np.stack([shrink(reader[number].asnumpy(), SHORT_SIDE_PX) for number in numbers])


READERS = {"sample_frames (PyAV)": by_pyav, "decord": by_decord, "decord, kept open": by_decord_kept_open}

if __name__ == "__main__":
    main()
