"""Peak memory of a scan worker, by the length of a 4K film and by the number of files.

    python -m benchmarks.memory [--minutes 1 5] [--ways parts pass] [--files 1000]

Makes ten seconds of 3840x2160 H.264, repeats them by copying packets, and scans the result in a process of its own: in
parts, one after the other, as a worker does, and in one pass. Promise: at most 1.5 GiB for two hours, and no more than
for one minute. `--minutes 1 120 --ways parts` shows that, in an hour of decoding. What grows with the length of one
pass are the numbers kept of each frame, which are printed per hour. The small files are scanned one after the other.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import described

PROMISED_GIB = 1.5
WIDTH, HEIGHT, FPS = 3840, 2160, 24
LOOP_S = 10
ENCODING = {"crf": "30", "preset": "ultrafast", "x264-params": "ref=5:bframes=3"}
"""Quick, but with the five reference pictures that levels 5.1 and 5.2 allow at this size, which the decoder holds."""

WARM_UP = 20
PARTS_S = 60.0
"""Shorter than the default, so that a film of five minutes has parts to show."""
WAYS = {"parts": PARTS_S, "pass": None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1.0, 5.0], help="lengths of the 4K film")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="how the film is scanned")
    parser.add_argument("--files", type=int, default=1000, help="small files that one worker scans")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)  # what a process of its own does
    arguments = parser.parse_args()
    if arguments.work:
        path, part_s, times = arguments.work
        print(json.dumps(work(path, json.loads(part_s), int(times))))
        return
    print(described())
    with tempfile.TemporaryDirectory() as folder:
        loop, film, small = (Path(folder) / name for name in ("loop.mp4", "film.mp4", "small.mp4"))
        write(loop, moving(HEIGHT, WIDTH, LOOP_S * FPS), ENCODING)
        for minutes in arguments.minutes:
            repeat(loop, film, round(minutes * 60 / LOOP_S))
            for way in arguments.ways:
                found = in_its_own_process(film, WAYS[way], 1)
                is_kept = found["peak_mib"] <= PROMISED_GIB * 1024
                print(
                    f"  {minutes:5.1f} min of {WIDTH}x{HEIGHT} in {way:5}: peak {found['peak_mib']:5.0f} MiB"
                    f" (promised <= {PROMISED_GIB} GiB: {'kept' if is_kept else 'MISSED'}),"
                    f" {found['num_items']} parts, {found['frames_per_s']:.0f} frames/s",
                    flush=True,
                )
        write(small, moving(96, 160, 2 * FPS), {})
        found = in_its_own_process(small, None, arguments.files)
        early, late = found["early_mib"], found["peak_mib"]
        print(f"  {arguments.files} small files in one process: peak {early} MiB after {WARM_UP}, {late} after all")
        print(f"  numbers kept of one pass: {mib_per_hour(small):.0f} MiB per hour of film at {FPS} frames/s")


def moving(height: int, width: int, num_frames: int) -> Iterator[np.ndarray]:
    """A gradient that drifts behind a square: much area, few bits, quick to encode and to decode."""
    row = np.linspace(40, 200, width).astype(np.uint8)
    for number in range(num_frames):
        picture = np.repeat(np.roll(row, 2 * number)[None, :, None], height, axis=0).repeat(3, axis=2)
        picture[height // 3 : height // 2, width // 4 + number : width // 3 + number] = 230
        yield picture


def write(path: Path, pictures: Iterator[np.ndarray], options: dict[str, str]) -> None:
    import av

    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("libx264", rate=FPS, options=options)
        first = next(pictures)
        stream.height, stream.width, stream.pix_fmt = *first.shape[:2], "yuv420p"
        stream.codec_context.gop_size = 2 * FPS
        for picture in chain([first], pictures):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode())


def repeat(source: Path, target: Path, times: int) -> None:
    """The film `times` over, by copying its packets to later times; nothing is encoded."""
    import av

    with av.open(str(source)) as loop, av.open(str(target), "w") as output:
        stream = loop.streams.video[0]
        copy = output.add_stream_from_template(stream)
        length = stream.duration or 0
        for turn in range(times):
            loop.seek(0)
            for packet in loop.demux(stream):
                if packet.dts is not None and packet.pts is not None:
                    packet.pts, packet.dts = packet.pts + turn * length, packet.dts + turn * length
                    packet.stream = copy
                    output.mux(packet)


def in_its_own_process(path: Path, part_s: float | None, times: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.memory", "--work", str(path), json.dumps(part_s), str(times)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent)
    found: dict[str, Any] = json.loads(said.stdout)
    return found


def work(path: str, part_s: float | None, times: int) -> dict[str, Any]:
    """Scans a file, or its parts, `times` over, keeping nothing; says what the process took."""
    from curate.scan import Identified, IdentifyStage, ScanConfig, ScanStage, SourceFile
    from curate.scanned import Scanned
    from curate.schema import Failure

    config = ScanConfig(part_s=part_s, time_limit_s=None)
    file = SourceFile(uri=path, path=path, size_bytes=Path(path).stat().st_size)
    (identified,) = IdentifyStage(config).process([file])
    assert isinstance(identified, Identified), identified
    items = [replace(file, part=part, video_id=identified.video_id) for part in identified.parts] * times
    stage = ScanStage(config)
    num_frames, early_mib, start = 0, 0, time.perf_counter()
    for number, item in enumerate(items):
        (outcome,) = stage.process([item])
        assert not isinstance(outcome, Failure), outcome
        num_frames += outcome.num_decoded_frames if isinstance(outcome, Scanned) else len(outcome.pts)
        if number == WARM_UP:
            early_mib = peak_mib()
    return {
        "peak_mib": peak_mib(),
        "early_mib": early_mib,
        "num_items": len(items),
        "frames_per_s": num_frames / (time.perf_counter() - start),
    }


def mib_per_hour(path: Path) -> float:
    """Of what a pass keeps of a film, from a small one."""
    from curate.measure import measure
    from curate.media.limits import CEILING_PIXELS
    from curate.media.probe import probe
    from curate.shots.adaptive import AdaptiveConfig

    video = probe(str(path), "", "")
    kept = measure(
        video, str(path), AdaptiveConfig().build(), short_side_px=144, time_limit_s=None, max_pixels=CEILING_PIXELS
    )
    arrays = (kept.pts, kept.scores, kept.numbers, kept.thumbs, kept.thumb_frames)
    return sum(array.nbytes for array in arrays) / len(kept.pts) * 3600 * FPS / 2**20


def peak_mib() -> int:
    """Most memory that this process has held. Not getrusage, which counts the parent's before the start."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) // 1024
    raise OSError("/proc/self/status has no VmHWM: this benchmark needs Linux")


if __name__ == "__main__":
    main()
