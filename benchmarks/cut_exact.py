"""Random spans of films in many formats: has each clip the right first frame, last frame and count, and its sound?

    python -m benchmarks.cut_exact [--spans 500] [--seed 0] [--mode encode]

The frames carry their numbers, and the sound clicks at known times. Both are read from the clips by PyAV alone. The
exit code is 1 where anything is wrong.
"""

import argparse
import io
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.machine import described
from curate.media.cut import CutConfig, EncodedClip, cut_clip
from curate.media.frames import iter_frames
from curate.media.probe import probe
from curate.schema import FailureKind, MediaError, Span
from tests.support.numbered import NumberedFrames, click_times_s, encode

NUM_FRAMES = 192
FPS = Fraction(24)
CLICKS_S = tuple(0.37 + 0.5 * number for number in range(15))
SOUND_RATE = 48000
EDGE_S = 0.1
"""Clicks this near to an end of a clip may be cut off."""

OPEN_GOP = {"x264-params": "open-gop=1:bframes=4:keyint=30:scenecut=0:b-pyramid=normal", "crf": "14"}
IRREGULAR = np.cumsum(np.random.default_rng(0).integers(25, 60, NUM_FRAMES)).tolist()
FILMS: Mapping[str, dict[str, Any]] = {
    "h264_b_frames.mp4": {"num_b_frames": 3},
    "h264_open_gop.mp4": {"options": OPEN_GOP},
    "h264_edit_list.mp4": {"pts": [number + 9 for number in range(NUM_FRAMES)]},
    "h264_rotated.mp4": {"rotation": 90},
    "h264_vfr.mkv": {"pts": IRREGULAR, "time_base": Fraction(1, 1000)},
    "h264.ts": {"container": "mpegts", "sound_codec": "mp2"},
    "h264_open_gop.ts": {"container": "mpegts", "options": OPEN_GOP},
    "hevc.mp4": {
        "codec": "libx265", "num_b_frames": None,
        "options": {"preset": "ultrafast", "x265-params": "log-level=none:bframes=3"},
    },
    "vp9.webm": {
        "codec": "libvpx-vp9", "num_b_frames": None, "sound_codec": "libopus",
        "options": {"deadline": "realtime", "cpu-used": "8"},
    },
    "av1.mp4": {"codec": "libsvtav1", "num_b_frames": None, "options": {"preset": "12", "svtav1-params": "lp=1"}},
}  # fmt: skip


@dataclass
class Counts:
    """Of the clips of one film."""

    clips: int = 0
    refused: int = 0
    wrong_first: int = 0
    wrong_last: int = 0
    wrong_count: int = 0
    clicks: int = 0
    lost_clicks: int = 0
    worst_ms: float = 0.0

    @property
    def num_wrong(self) -> int:
        return self.wrong_first + self.wrong_last + self.wrong_count + self.lost_clicks


def check_film(path: str, config: CutConfig, count: int, rng: np.random.Generator, *, is_turned: bool) -> Counts:
    numbered, counts = NumberedFrames(), Counts()
    base = probe(path, path, "").time_base
    shown = [(frame.pts, frame.pts + frame.duration) for frame in iter_frames(path, short_side_px=32, time_base=base)]
    sound_zero_s = _sound_zero_s(path)
    for _ in range(count):
        first, last = sorted(rng.integers(0, len(shown), 2).tolist())
        span = Span(start_pts=shown[first][0], end_pts=shown[last][1], time_base=base)
        try:
            clip = cut_clip(path, span, config)
        except MediaError as error:
            if config.mode == "encode" or error.kind is not FailureKind.NO_FRAMES:
                raise
            counts.refused += 1
            continue
        counts.clips += 1
        if config.mode == "copy":
            begins = [begin for begin, _ in shown]
            first = begins.index(clip.span.start_pts)
            last = next(number for number, (_, end) in enumerate(shown) if end >= clip.span.end_pts)
        numbers = numbered.read(_pictures(clip, is_turned))
        counts.wrong_first += numbers[0] != first
        counts.wrong_last += numbers[-1] != last
        counts.wrong_count += len(numbers) != last - first + 1
        _check_clicks(clip, [at - (clip.span.start_s - sound_zero_s) for at in CLICKS_S], counts)
    return counts


def _sound_zero_s(path: str) -> float:
    """The file's time at which its first sample sounds, by the first click."""
    with av.open(path, "r") as container:
        frames = list(container.decode(audio=0))
    samples = np.concatenate([frame.to_ndarray().reshape(1, -1) for frame in frames], axis=1).astype(np.float32)
    scale = max(1.0, float(np.abs(samples).max()))
    return float(frames[0].time or 0) + click_times_s(samples / scale, frames[0].sample_rate)[0] - CLICKS_S[0]


def _pictures(clip: EncodedClip, is_turned: bool) -> np.ndarray:
    with av.open(io.BytesIO(clip.data), "r") as container:
        rgb = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    return np.rot90(rgb, k=-1, axes=(1, 2)) if is_turned and rgb.shape[1] > rgb.shape[2] else rgb


def _check_clicks(clip: EncodedClip, expected_s: list[float], counts: Counts) -> None:
    expected = [at for at in expected_s if EDGE_S < at < min(clip.sound_s, clip.duration_s) - EDGE_S]
    if not expected:
        return
    with av.open(io.BytesIO(clip.data), "r") as container:
        frames = list(container.decode(audio=0))
    samples = np.concatenate([frame.to_ndarray().reshape(1, -1) for frame in frames], axis=1)
    begin_s = float(frames[0].time or 0)
    found = [begin_s + at for at in click_times_s(samples, frames[0].sample_rate)]
    for at in expected:
        distance = min((abs(at - one) for one in found), default=1.0)
        counts.clicks += 1
        counts.lost_clicks += distance > 1024 / SOUND_RATE
        counts.worst_ms = max(counts.worst_ms, 1000 * distance)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--spans", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mode", choices=("encode", "copy"), default="encode")
    arguments = parser.parse_args()
    audio = "copy" if arguments.mode == "copy" else "aac"
    os.environ.setdefault("SVT_LOG", "1")
    config = CutConfig(preset="ultrafast", mode=arguments.mode, audio=audio)
    table = Table("film", "clips", "refused", "first", "last", "count", "clicks", "lost", "worst, ms", box=None)
    num_wrong = num_clips = 0
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, encoding) in enumerate(FILMS.items()):
            path = Path(folder) / name
            sound = {"with_sound": True, "clicks_s": CLICKS_S, "sound_rate": SOUND_RATE}
            encode(path, NumberedFrames().draw(NUM_FRAMES), fps=FPS, **{**sound, **encoding})
            share = arguments.spans // len(FILMS) + (number < arguments.spans % len(FILMS))
            rng = np.random.default_rng([arguments.seed, number])
            counts = check_film(str(path), config, share, rng, is_turned="rotation" in encoding)
            num_wrong, num_clips = num_wrong + counts.num_wrong, num_clips + counts.clips
            facts = (counts.clips, counts.refused, counts.wrong_first, counts.wrong_last, counts.wrong_count)
            table.add_row(
                name, *map(str, facts), str(counts.clicks), str(counts.lost_clicks), f"{counts.worst_ms:.1f}"
            )
    console = Console(width=120, highlight=False)
    console.print(f"{described()}\nmode {arguments.mode}; wrong ones of {num_clips} clips, seed {arguments.seed}")
    console.print(table)
    sys.exit(bool(num_wrong))


if __name__ == "__main__":
    main()
