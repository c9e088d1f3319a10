"""A long file scanned in parts gives what one pass over it gives, bit for bit, or is scanned as a whole."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.measure import Measured
from curate.media.parts import Part, plan_parts
from curate.media.probe import probe
from curate.scan import ScanConfig, ScanStage, SourceFile, assemble, scan
from tests.curate.media.test_exact_frames import FAST_HEVC, OPEN_GOP

LENGTHS = (61, 47, 90, 33, 129, 72, 40, 128)
NUM_FRAMES = sum(LENGTHS)
IRREGULAR = np.cumsum(np.random.default_rng(3).choice([5, 20, 41, 90, 700], NUM_FRAMES, p=[0.2, 0.3, 0.3, 0.19, 0.01]))
VIDEOS: dict[str, dict[str, Any]] = {
    "b_frames.mp4": {},
    "long_groups.mp4": {"gop": 100},
    "open_gop.mp4": {"options": OPEN_GOP},
    "late_start.mp4": {"pts": [37 + number for number in range(NUM_FRAMES)]},
    "edit_list.mp4": {"pts": [number - 10 for number in range(NUM_FRAMES)]},
    "irregular.mp4": {"pts": IRREGULAR.tolist(), "time_base": Fraction(1, 1000)},
    "irregular_open_gop.mkv": {"pts": IRREGULAR.tolist(), "time_base": Fraction(1, 1000), "options": OPEN_GOP},
    "ntsc.mov": {"fps": Fraction(30000, 1001)},
    "slow.mp4": {"fps": Fraction(2, 3)},
    "open_gop.ts": {"container": "mpegts", "options": OPEN_GOP},
    "mpeg2.ts": {"codec": "mpeg2video", "container": "mpegts", "options": {"b": "2000000"}},
    "hevc.mp4": {"codec": "libx265", "num_b_frames": None, "options": FAST_HEVC},
    "vp9.webm": {"codec": "libvpx-vp9", "num_b_frames": None, "options": {"deadline": "realtime", "cpu-used": "8"}},
}


@pytest.fixture(scope="module")
def film(draw_scenes: Callable[..., np.ndarray]) -> np.ndarray:
    """Shots that pan, one of them with bars, one that flashes, one that stands still."""
    rgb = draw_scenes(LENGTHS).copy()
    shots = np.split(rgb, np.cumsum(LENGTHS)[:-1])
    shots[1][:, :12] = shots[1][:, -12:] = 0
    shots[3][::7] = 250
    shots[6][:] = shots[6][0]
    return rgb


def source(path: str) -> SourceFile:
    return SourceFile(uri=path, path=path, size_bytes=Path(path).stat().st_size, video_id="v")


def measured(path: str, parts: Sequence[Part], config: ScanConfig) -> list[Any]:
    """Backwards, each by a stage of its own: parts share nothing."""
    outcomes = [ScanStage(config).process([replace(source(path), part=part)])[0] for part in reversed(parts)]
    return outcomes[::-1]


@pytest.mark.parametrize("name", VIDEOS)
def test_parts_give_what_one_pass_gives(film: np.ndarray, write_video: Callable[..., str], name: str) -> None:
    path = write_video(name, film, **VIDEOS[name])
    config = ScanConfig()
    whole = scan(probe(path, path, "v"), path, config)
    assert len(whole.clips) >= len(LENGTHS) and whole.num_decoded_frames > NUM_FRAMES - 12
    duration_s = whole.clips[-1].clip.span.end_s - whole.clips[0].clip.span.start_s
    for part_s in (duration_s / 3.3, duration_s / 8):
        parts = plan_parts(path, part_s)
        assert len(parts) >= 3
        outcomes = measured(path, parts, config)
        assert all(isinstance(outcome, Measured) for outcome in outcomes), outcomes
        assert all(before.end_pts == after.pts[0] for before, after in pairwise(outcomes))
        assert assemble(outcomes, config) == whole
