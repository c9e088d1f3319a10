"""What each score costs: CPU time per clip at the default settings, decoding included.

    python -m benchmarks.scores [VIDEO] [--clips 12] [--seconds 4]

CPU time of one thread, so that what else runs on the machine matters little. Scorers run in their configured order on
shared frames: the first of those that share a backbone pays for it.
"""

import argparse
import time
from collections import defaultdict
from fractions import Fraction
from pathlib import Path

from benchmarks.machine import described
from curate.encoders.base import EncoderPool
from curate.media.probe import probe
from curate.media.sample import sample_frames
from curate.schema import Span
from curate.scores.config import ScoreConfig
from curate.scores.frames import ClipFrames
from curate.scores.score import one_thread

DEMO_VIDEO = Path(__file__).parent.parent / "pipelines" / "demo" / "media" / "bbb_a.mp4"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", nargs="?", default=str(DEMO_VIDEO))
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=4, help="length of a clip")
    arguments = parser.parse_args()
    print(described())
    config = ScoreConfig()
    scorers = [scorer.build() for scorer in config.scorers.values()]
    encoders, time_base = EncoderPool(), probe(arguments.video, arguments.video, "").time_base
    spent: dict[str, float] = defaultdict(float)
    with one_thread():
        for scorer in scorers:
            scorer.setup(encoders)
        for number in range(arguments.clips):
            start_s = number * arguments.seconds
            span = _span(start_s, start_s + arguments.seconds, time_base)
            before = time.process_time()
            frames = sample_frames(arguments.video, span, config.num_frames, short_side_px=config.short_side_px).rgb
            spent["decode"] += time.process_time() - before
            clip = ClipFrames(frames)
            for scorer in scorers:
                before = time.process_time()
                scorer.score([clip])
                spent[scorer.config.kind] += time.process_time() - before
    print(f"{arguments.clips} clips, {config.num_frames} frames of {config.short_side_px} px; ms of CPU per clip:")
    for name, seconds in [*spent.items(), ("all", sum(spent.values()))]:
        print(f"{name:16} {seconds / arguments.clips * 1000:6.0f}")


def _span(start_s: float, end_s: float, time_base: Fraction) -> Span:
    return Span(start_pts=int(start_s / time_base), end_pts=int(end_s / time_base), time_base=time_base)


if __name__ == "__main__":
    main()
