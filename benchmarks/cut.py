"""The cut step beside ffmpeg on the same film: seconds, bytes, and how near the pixels are to the source's.

    python -m benchmarks.cut [VIDEO] [--seconds 120] [--rounds 1] [--beside CHECKOUT [--whole] [--executor ray]]

ffmpeg transcodes the film (`libx264 -preset veryfast -crf 18`, all cores); reelpack cuts the clips that its rules
keep, with `--executor local`. The readings of a round follow one another; ratios are of medians, per frame. PSNR is
that of luma against the source, over all frames. Bytes at equal PSNR: ffmpeg's, between those of two qualities.
`--beside` names a checkout of an earlier reelpack, which cuts in the same run. `--whole` compares all of `curate` with
that checkout's, and leaves ffmpeg out. Promises: the cut takes at most 1.1 times ffmpeg's time, and 1.15 times its
bytes at equal PSNR; `curate` takes at most half the time of 9b708f3.
"""

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from pkgutil import resolve_name
from statistics import median
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq

from benchmarks.curate import find_ffmpeg
from benchmarks.machine import described

HERE = Path(__file__).resolve().parents[1]
DEMO_VIDEO = HERE / "pipelines/demo/media/bbb_a.mp4"
CRF, LOWER_CRF = 18, 20
MOST_TIME, MOST_BYTES, MOST_OF_BEFORE = 1.1, 1.15, 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What one program took for so many frames, and what came of it; `psnr` in dB."""

    seconds: float
    cpu_s: float
    num_frames: int
    num_bytes: int
    psnr: float = math.nan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path, nargs="?", default=DEMO_VIDEO)
    parser.add_argument("--seconds", type=float, default=120, help="of the film's beginning")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--beside", type=Path, help="another checkout")
    parser.add_argument("--whole", action="store_true", help="time all of curate")
    parser.add_argument("--executor", choices=["local", "ray"], default="local", help="of all of curate")
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # in a process of its own
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments)))
        return
    ffmpeg = find_ffmpeg()
    if ffmpeg is None:
        raise SystemExit("no ffmpeg on the PATH, and no package imageio-ffmpeg (pip install imageio-ffmpeg)")
    print(described())
    with tempfile.TemporaryDirectory(prefix="cut-") as folder:
        film = Path(folder) / "film.mp4"
        run(ffmpeg, "-t", str(arguments.seconds), "-i", str(arguments.video), "-c", "copy", "-an", str(film))
        trees = {"reelpack": HERE, **({"before": arguments.beside.resolve()} if arguments.beside else {})}
        found: dict[str, list[Reading]] = {}
        for number in range(arguments.rounds):
            for crf in () if arguments.whole else (CRF, LOWER_CRF):
                found.setdefault(f"ffmpeg crf {crf}", []).append(transcoded(ffmpeg, film, Path(folder), crf))
            for name, tree in trees.items():
                out = Path(folder) / f"{name} {number}"
                found.setdefault(name, []).append(cut(tree, film, out, arguments))
        show({name: middle(readings) for name, readings in found.items()})


def transcoded(ffmpeg: str, film: Path, folder: Path, crf: int) -> Reading:
    out = folder / f"{crf}.mp4"
    options = ["-c:v", "libx264", "-preset", "veryfast", "-crf", str(crf), "-fps_mode", "passthrough"]
    start = clocks()
    run(ffmpeg, "-i", str(film), *options, str(out))
    seconds, cpu_s = (end - begin for end, begin in zip(clocks(), start, strict=True))
    pairs = zip((luma for _, luma in pictures(str(film))), (luma for _, luma in pictures(str(out))), strict=True)
    num_frames, psnr = compared(pairs)
    return Reading(seconds=seconds, cpu_s=cpu_s, num_frames=num_frames, num_bytes=out.stat().st_size, psnr=psnr)


def cut(tree: Path, film: Path, out: Path, arguments: argparse.Namespace) -> Reading:
    """By the reelpack of a checkout."""
    command = [sys.executable, "-P", __file__, str(film), "--measure", str(out), "--executor", arguments.executor]
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    command += ["--whole"] if arguments.whole else []
    said = subprocess.run(command, env=environment, cwd=tree, check=True, text=True, stdout=subprocess.PIPE).stdout
    taken = json.loads(said.splitlines()[-1])
    index = pq.read_table(out / "shards/index.parquet").to_pylist()
    num_bytes = sum(row["size"] for row in index)
    if arguments.whole:
        return Reading(**taken, num_frames=sum(row["num_frames"] for row in index), num_bytes=num_bytes)
    spans = {row["clip_id"]: row for row in pq.read_table(out / "clips.parquet").to_pylist()}
    index.sort(key=lambda row: spans[row["clip_id"]]["start_s"])
    num_frames, psnr = compared(_pairs(film, out, index, spans))
    return Reading(**taken, num_frames=num_frames, num_bytes=num_bytes, psnr=psnr)


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """Curate; without `--whole` the clock starts with the first clip that is cut."""
    import pipelines.config
    from curate.cut import CutStage

    # An editable install may have modules that the checkout has not.
    has_drivers = (Path(pipelines.config.__file__).parent / "drivers").is_dir()
    curate = resolve_name("pipelines.drivers.curate:curate" if has_drivers else "pipelines.curate_videos:curate")
    starts = [clocks()] if arguments.whole else []
    process = CutStage.process

    def timed(stage: CutStage, items: Sequence[Any]) -> Any:
        starts.append(clocks())
        return process(stage, items)

    settings = [f"execute.executor={arguments.executor}"]
    if not arguments.whole:
        settings.append("score.scorers=null")
        CutStage.process = timed  # type: ignore[method-assign, assignment]
    curate([str(arguments.video)], arguments.measure, pipelines.config.load_config(overrides=settings))
    start, end = min(starts), clocks()
    return {"seconds": end[0] - start[0], "cpu_s": end[1] - start[1]}


def clocks() -> tuple[float, float]:
    """Seconds of the wall clock, and of this process and those that it waited for on CPUs."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter(), time.process_time() + children.ru_utime + children.ru_stime


def _pairs(
    film: Path, out: Path, index: list[dict[str, Any]], spans: dict[str, dict[str, Any]]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Luma of the source's frames and of the clips', in order of time."""
    source = pictures(str(film))
    for row in index:
        with open(out / "shards" / row["shard"], "rb") as shard:
            shard.seek(row["offset"])
            data = shard.read(row["size"])
        span = spans[row["clip_id"]]
        begin, clip = Fraction(span["time_base"]) * span["start_pts"], pictures(BytesIO(data))
        _, luma = next(clip)
        yield next(found for at, found in source if at == begin), luma
        yield from ((next(source)[1], luma) for _, luma in clip)


def pictures(file: "str | BytesIO") -> Iterator[tuple[Fraction, np.ndarray]]:
    """Time of each frame in seconds, and its luma, `(H, W)` uint8."""
    with av.open(file, "r") as container:
        for frame in container.decode(video=0):
            plane = frame.planes[0]
            luma = np.frombuffer(bytes(plane), np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width]
            yield Fraction(frame.pts or 0) * (frame.time_base or 1), luma


def compared(pairs: Iterator[tuple[np.ndarray, np.ndarray]]) -> tuple[int, float]:
    """Number of pairs, and their PSNR in dB."""
    num_frames, errors = 0, []
    for expected, got in pairs:
        num_frames += 1
        errors.append(float(np.square(expected.astype(np.int16) - got, dtype=np.int32).mean()))
    return num_frames, 10 * math.log10(255**2 / (sum(errors) / num_frames))


def middle(readings: list[Reading]) -> Reading:
    """Median times; the rest is equal in every round."""
    times = {name: median(getattr(one, name) for one in readings) for name in ("seconds", "cpu_s")}
    return replace(readings[0], **times)


def show(found: dict[str, Reading]) -> None:
    for name, one in found.items():
        per_frame = f"{1000 * one.seconds / one.num_frames:6.1f} ms, {1000 * one.cpu_s / one.num_frames:6.1f} CPU ms"
        print(f"  {name:13} {one.num_frames:6} frames  {one.seconds:7.1f} s  {one.cpu_s:7.1f} CPU s, ", end="")
        print(f"per frame {per_frame}, {one.num_bytes / one.num_frames:8.0f} bytes  PSNR {one.psnr:.2f} dB")
    ours, before, ffmpeg = found["reelpack"], found.get("before"), found.get(f"ffmpeg crf {CRF}")
    if before is not None:
        took = ratio(ours, before, "seconds")
        kept = "" if ffmpeg else f" ({promise(took, MOST_OF_BEFORE)})"
        print(f"  reelpack takes {took:.2f} x the time of before{kept}, ", end="")
        print(f"{ratio(ours, before, 'cpu_s'):.2f} x its CPU time")
    if ffmpeg is None:
        return
    took = ratio(ours, ffmpeg, "seconds")
    print(f"  reelpack takes {took:.2f} x ffmpeg's time ({promise(took, MOST_TIME)}), ", end="")
    print(f"{ratio(ours, ffmpeg, 'cpu_s'):.2f} x its CPU time")
    for name in [name for name in ("reelpack", "before") if name in found]:
        equal = bytes_at(found[name].psnr, ffmpeg, found[f"ffmpeg crf {LOWER_CRF}"])
        share = found[name].num_bytes / found[name].num_frames / equal
        kept = f" ({promise(share, MOST_BYTES)})" if name == "reelpack" else ""
        print(f"  {name}: {share:.2f} x ffmpeg's bytes at equal PSNR{kept}")


def ratio(one: Reading, other: Reading, name: str) -> float:
    mine, theirs = getattr(one, name) / one.num_frames, getattr(other, name) / other.num_frames
    return float(mine / theirs)


def bytes_at(psnr: float, high: Reading, low: Reading) -> float:
    """ffmpeg's bytes per frame at this PSNR: their logarithm is about linear in it."""
    logs = [math.log(one.num_bytes / one.num_frames) for one in (high, low)]
    slope = (logs[0] - logs[1]) / (high.psnr - low.psnr)
    return math.exp(logs[0] + slope * (psnr - high.psnr))


def promise(value: float, most: float) -> str:
    return f"{'kept' if value <= most else 'BROKEN'}: <= {most:g}"


def run(*command: str) -> None:
    subprocess.run([command[0], "-v", "error", "-nostdin", *command[1:]], check=True)


if __name__ == "__main__":
    main()
