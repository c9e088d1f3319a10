"""What each score costs: CPU time per clip at the default settings, decoding included.

    python -m benchmarks.scores [VIDEO ...] [--clips 12] [--seconds 4] [--rounds 1] [--beside CHECKOUT]

CPU time of one thread, so that what else runs on the machine matters little; of each step of a clip, the least of the
rounds. Scorers run in their configured order on shared frames: the first of those that share a backbone pays for it.
Clips follow one another from the start of each film. `--beside` names a checkout of an earlier reelpack, which scores
the same clips in processes of its own, in turn; the ratio is of the scorers that both have, and each column's largest
difference is that of the stored values. Promise: at most 0.6 times the CPU time of 9b708f3.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np

from benchmarks.machine import described
from curate.media.probe import probe
from curate.media.sample import sample_frames
from curate.schema import Span
from curate.scores.config import ScoreConfig
from curate.scores.frames import ClipFrames
from curate.scores.score import SCORE_DIGITS, one_thread

HERE = Path(__file__).resolve().parents[1]
DEMO_VIDEO = HERE / "pipelines/demo/media/bbb_a.mp4"
DECODE = "decode"
MOST_OF_BEFORE = 0.6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="*", type=Path, default=[DEMO_VIDEO])
    parser.add_argument("--clips", type=int, default=12, help="of each film, at most")
    parser.add_argument("--seconds", type=float, default=4, help="length of a clip")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--beside", type=Path, help="another checkout")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)  # in a process of its own
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.videos, arguments.clips, arguments.seconds)))
        return
    print(described())
    trees = {"now": HERE, **({"before": arguments.beside.resolve()} if arguments.beside else {})}
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for _ in range(arguments.rounds):
        for name, tree in trees.items():
            found[name].append(scored_by(tree, arguments))
    show(found, arguments.seconds)


def scored_by(tree: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """What the reelpack of a checkout measures."""
    command = [sys.executable, "-P", __file__, *(str(video.resolve()) for video in arguments.videos), "--measure"]
    command += ["--clips", str(arguments.clips), "--seconds", str(arguments.seconds)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tree), str(HERE)]), "OMP_NUM_THREADS": "1"}
    said = subprocess.run(command, env=environment, cwd=tree, check=True, text=True, stdout=subprocess.PIPE).stdout
    measured: dict[str, Any] = json.loads(said.splitlines()[-1])
    return measured


def measure(videos: Iterable[Path], count: int, seconds: float) -> dict[str, Any]:
    """`cpu_s`: step → seconds of each clip; `values`: column → stored value of each; `peak_mib` of the process."""
    config = ScoreConfig()
    settings = config.scorers.values() if isinstance(config.scorers, Mapping) else config.scorers
    scorers = {scorer.kind: scorer.build() for scorer in settings}
    encoders = resolve_name("curate.scores.score:EncoderPool")()  # its own module had another name
    cpu_s: dict[str, list[float]] = defaultdict(list)
    values: dict[str, list[Any]] = defaultdict(list)

    @contextmanager
    def clocked(step: str) -> Iterator[None]:
        start = time.process_time()
        yield
        cpu_s[step].append(time.process_time() - start)

    with one_thread():
        for scorer in scorers.values():
            scorer.setup(encoders)
        spans = [(str(video), span) for video in videos for span in spans_of(str(video), count, seconds)]
        for video, span in [spans[0], *spans]:  # the first clip once more, for what happens once
            with clocked(DECODE):
                rgb = sample_frames(video, span, config.num_frames, short_side_px=config.short_side_px).rgb
            clip = ClipFrames(rgb, *sound_of(video, span))
            for kind, scorer in scorers.items():
                with clocked(kind):
                    (score,) = scorer.score([clip])
                for column, value in score.items():
                    values[column].append(round(value, SCORE_DIGITS) if isinstance(value, float) else value)
    return {
        "cpu_s": {step: times[1:] for step, times in cpu_s.items()},
        "values": {column: found[1:] for column, found in values.items()},
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def spans_of(path: str, count: int, seconds: float) -> list[Span]:
    video = probe(path, path, "")
    count = min(count, int((video.duration_s or 0) / seconds))
    edges = [int(number * seconds / video.time_base) for number in range(count + 1)]
    return [Span(start_pts=a, end_pts=b, time_base=video.time_base) for a, b in pairwise(edges)]


def sound_of(path: str, span: Span) -> tuple[Any, ...]:
    """What `ClipFrames` wants besides pictures; nothing in a checkout whose scorers hear nothing."""
    try:
        from curate.media.sound import read_sound
    except ImportError:
        return ()
    return span.duration_s, partial(read_sound, path, span)


def show(found: Mapping[str, list[dict[str, Any]]], seconds: float) -> None:
    steps = {name: least(rounds) for name, rounds in found.items()}
    now, before = steps["now"], steps.get("before", {})
    count = len(found["now"][0]["cpu_s"][DECODE])
    config = ScoreConfig()
    print(
        f"{count} clips of {seconds:g} s, {config.num_frames} frames of {config.short_side_px} px; ms of CPU a clip:"
    )
    for step, taken in now.items():
        print(f"{step:16}{1000 * taken:6.0f}{beside(taken, before.get(step))}")
    print(f"{'all':16}{1000 * sum(now.values()):6.0f}")
    for name, rounds in found.items():
        print(f"{name}: a peak of {max(one['peak_mib'] for one in rounds):.0f} MiB")
    if not before:
        return
    shared, earlier = sum(now[step] for step in before), sum(before.values())
    kept = "kept" if shared <= MOST_OF_BEFORE * earlier else "BROKEN"
    print(f"{'of both':16}{1000 * shared:6.0f}{beside(shared, earlier)} ({kept}: <= {MOST_OF_BEFORE:g})")
    print("largest difference of the stored values:")
    stored, others = found["now"][0]["values"], found["before"][0]["values"]
    for column in others:
        differences = [np.abs(np.subtract(a, b)).max() for a, b in zip(stored[column], others[column], strict=True)]
        print(f"  {column:16}{max(differences):.5f} ({np.count_nonzero(differences)} of {count} clips)")


def least(rounds: list[dict[str, Any]]) -> dict[str, float]:
    """Seconds of CPU per clip of each step."""
    return {
        step: float(np.mean(np.min([one["cpu_s"][step] for one in rounds], axis=0))) for step in rounds[0]["cpu_s"]
    }


def beside(taken: float, before: float | None) -> str:
    return "" if before is None else f", before {1000 * before:6.0f}: {taken / max(before, 1e-9):.2f} x"


if __name__ == "__main__":
    main()
