"""The scan of this checkout, in full and fast, beside that of another checkout: CPU time, cuts, signals.

    git worktree add ../before COMMIT
    python -m benchmarks.scan_against ../before [VIDEO ...] [--films] [--rounds 3]

The passes of a round follow one another, each in a process of its own that has scanned a short file before. A ratio is
one of CPU times of the same round, its median over the rounds. Cuts (F1 at tolerance 0) and signals (of clips with
equal spans) are compared: of the fast and the full pass of this checkout, of the full pass and the other checkout.
`--films` also encodes VIDEO, an excerpt of Big Buck Bunny, at 720 and 1080 lines in H.264 with B-frames, HEVC and VP9,
the larger ones with grain.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from av.video.stream import VideoStream

ROOT = Path(__file__).resolve().parents[1]
MEDIA = ROOT / "pipelines" / "demo" / "media"
WAYS: dict[str, dict[str, Any]] = {"before": {}, "full": {}, "fast": {"decode": "fast"}}
PAIRS = (("fast", "full"), ("full", "before"))
Scan = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Codec:
    """An encoder of libav with its options, one container."""

    name: str
    suffix: str
    options: dict[str, str]


CODECS = {
    "h264": Codec(name="libx264", suffix="mp4", options={"crf": "20", "preset": "fast", "bf": "3", "g": "96"}),
    "hevc": Codec(
        name="libx265", suffix="mp4", options={"crf": "24", "preset": "fast", "x265-params": "log-level=none"}
    ),
    "vp9": Codec(
        name="libvpx-vp9",
        suffix="webm",
        options={"crf": "32", "b": "0", "deadline": "realtime", "cpu-used": "6", "row-mt": "1"},
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="another checkout")
    parser.add_argument("videos", nargs="*", default=[str(MEDIA / "bbb_a.mp4")])
    parser.add_argument("--films", action="store_true", help="encode the first video in several ways as well")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # settings of one pass, in a process of its own
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measured(arguments.videos[0], json.loads(arguments.measure))))
        return
    from benchmarks.machine import described

    print(described(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        films = encoded(arguments.videos[0], Path(folder)) if arguments.films else iter(())
        for video in [*arguments.videos, *films]:
            show(video, [one_round(video, arguments.before.resolve()) for _ in range(arguments.rounds)])


def one_round(video: str, before: Path) -> dict[str, Scan]:
    return {way: in_process(before if way == "before" else ROOT, video, WAYS[way]) for way in WAYS}


def in_process(tree: Path, video: str, settings: dict[str, str]) -> Scan:
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", str(Path(__file__).resolve()), ".", video, "--measure", json.dumps(settings)]
    found = subprocess.run(command, env=environment, cwd=tree, check=True, text=True, stdout=subprocess.PIPE).stdout
    scan: Scan = json.loads(found)
    return scan


def measured(path: str, settings: dict[str, str]) -> Scan:
    import torch  # noqa: F401  the network of a detector needs it, and an import is no scan

    from curate.media.probe import probe
    from curate.scan import ScanConfig, scan

    config = ScanConfig(**settings)
    for one in (str(MEDIA / "bbb_b.mp4"), path):  # the first one imports
        video = probe(one, one, "")
        start = time.process_time()
        scanned = scan(video, one, config)
        seconds = time.process_time() - start
    clips = {f"{one.clip.span.start_pts}-{one.clip.span.end_pts}": one.signals for one in scanned.clips}
    cuts = [one.clip.span.start_pts for one in scanned.clips][1:]
    return {"seconds": seconds, "num_frames": scanned.num_decoded_frames, "cuts": cuts, "clips": clips}


def show(video: str, rounds: list[dict[str, Scan]]) -> None:
    last = rounds[-1]
    spent = {way: median(one[way]["seconds"] for one in rounds) for way in WAYS}
    per_frame = ", ".join(f"{way} {1e3 * spent[way] / last[way]['num_frames']:.2f}" for way in WAYS)
    print(f"{Path(video).name}: {last['full']['num_frames']} frames; CPU ms per frame: {per_frame}")
    for way in ("full", "fast"):
        ratios = [one[way]["seconds"] / one["before"]["seconds"] for one in rounds]
        print(f"  {way} / before: {median(ratios):.2f} ({', '.join(f'{ratio:.2f}' for ratio in sorted(ratios))})")
    for one, other in PAIRS:
        print(f"  {one} beside {other}: {cuts_compared(last[one]['cuts'], last[other]['cuts'])}")
        for line in signals_compared(last[one]["clips"], last[other]["clips"]):
            print(f"    {line}")
    sys.stdout.flush()


def cuts_compared(found: list[int], true: list[int]) -> str:
    both = len(set(found) & set(true))
    f1 = 2 * both / (len(found) + len(true)) if found or true else 1.0
    return f"F1 of cuts {f1:.4f} ({both} of {len(true)}, {len(found) - both} false)"


def signals_compared(found: dict[str, dict[str, float]], true: dict[str, dict[str, float]]) -> Iterator[str]:
    spans = found.keys() & true.keys()
    for name in next(iter(true.values())):
        errors = [abs(found[span][name] - true[span][name]) for span in spans if name in found[span]]
        if errors and max(errors) > 0:
            size = median(abs(true[span][name]) for span in spans)
            print_as = f"{name:20} differs by {median(errors):.2g} in the median, {max(errors):.2g} at most"
            yield f"{print_as}, of {size:.2g}"


def encoded(video: str, folder: Path) -> Iterator[str]:
    import av
    import numpy as np

    rng = np.random.default_rng(0)
    for name, codec in CODECS.items():
        for height in (720, 1080):
            path = str(folder / f"{name}-{height}.{codec.suffix}")
            with av.open(video) as source, av.open(path, "w") as target:
                rate = source.streams.video[0].average_rate or Fraction(24)
                stream = cast("VideoStream", target.add_stream(codec.name, rate=rate, options=codec.options))
                stream.width, stream.height, stream.pix_fmt = height * 16 // 9, height, "yuv420p"
                grain = rng.integers(-4, 5, (2 * height, stream.width), np.int16)
                for number, frame in enumerate(source.decode(video=0)):
                    planes = frame.reformat(width=stream.width, height=height, format="yuv420p").to_ndarray()
                    if height > 720:
                        shift = int(rng.integers(height))
                        luma = planes[:height] + grain[shift : shift + height]
                        planes[:height] = luma.clip(16, 235)
                    one = av.VideoFrame.from_ndarray(planes, format="yuv420p")
                    one.pts, one.time_base = number, 1 / rate
                    target.mux(stream.encode(one))
                target.mux(stream.encode())
            yield path


if __name__ == "__main__":
    main()
