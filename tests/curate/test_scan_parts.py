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
from curate.media.parts import WHOLE, Part, plan_parts
from curate.media.probe import probe
from curate.scan import Identified, IdentifyStage, ScanConfig, ScanStage, SourceFile, assemble, scan
from curate.scanned import Scanned
from curate.schema import Failure, FailureKind
from curate.shots.adaptive import AdaptiveConfig
from tests.curate.media.test_exact_frames import FAST_HEVC, OPEN_GOP
from tests.support.windowed_detector import WindowedConfig

ADAPTIVE = ScanConfig(detector=AdaptiveConfig())
LENGTHS = (31, 24, 55, 17, 70, 36, 20, 67)
NUM_FRAMES = sum(LENGTHS)
IRREGULAR = np.cumsum(np.random.default_rng(3).choice([5, 20, 41, 90, 700], NUM_FRAMES, p=[0.2, 0.3, 0.3, 0.19, 0.01]))
VIDEOS: dict[str, dict[str, Any]] = {
    "b_frames.mp4": {},
    "long_groups.mp4": {"gop": 50},
    "open_gop.mp4": {"options": OPEN_GOP},
    "late_start.mp4": {"pts": [37 + number for number in range(NUM_FRAMES)]},
    "edit_list.mp4": {"pts": [number - 10 for number in range(NUM_FRAMES)]},
    "irregular.mp4": {"pts": IRREGULAR.tolist(), "time_base": Fraction(1, 1000)},
    "irregular_open_gop.mkv": {"pts": IRREGULAR.tolist(), "time_base": Fraction(1, 1000), "options": OPEN_GOP},
    "ntsc.mov": {"fps": Fraction(30000, 1001)},
    "slow.mp4": {"fps": Fraction(2, 3)},
    "refreshed.mp4": {"options": {"x264-params": "intra-refresh=1:keyint=15:scenecut=0", "crf": "14"}},
    "interlaced.ts": {"container": "mpegts", "options": {"x264-params": "tff=1", "crf": "14"}},
    "open_gop.ts": {"container": "mpegts", "options": OPEN_GOP},
    "mpeg2.ts": {"codec": "mpeg2video", "container": "mpegts", "options": {"b": "2000000"}},
    "hevc.mp4": {"codec": "libx265", "num_b_frames": None, "options": FAST_HEVC},
    "vp9.webm": {"codec": "libvpx-vp9", "num_b_frames": None, "options": {"deadline": "realtime", "cpu-used": "8"}},
}


@pytest.fixture(scope="module")
def frames(draw_scenes: Callable[..., np.ndarray]) -> np.ndarray:
    """Shots that pan, one of them with bars, one that flashes, one that stands still."""
    rgb = draw_scenes(LENGTHS, width=150, height=92).copy()  # rows that libswscale pads
    shots = np.split(rgb, np.cumsum(LENGTHS)[:-1])
    shots[1][:, :12] = shots[1][:, -12:] = 0
    shots[3][::7] = 250
    shots[6][:] = shots[6][0]
    return rgb


def source(path: str) -> SourceFile:
    return SourceFile(uri=path, path=path, size_bytes=Path(path).stat().st_size, video_id="v")


def measured(path: str, parts: Sequence[Part], config: ScanConfig) -> list[Any]:
    """Backwards, each by a stage of its own: parts share nothing."""
    outcomes = []
    for part in reversed(parts):
        stage = ScanStage(config)
        stage.setup()
        outcomes += stage.process([replace(source(path), part=part)])
    return outcomes[::-1]


@pytest.mark.parametrize("name", VIDEOS)
def test_parts_give_what_one_pass_gives(frames: np.ndarray, write_video: Callable[..., str], name: str) -> None:
    path = write_video(name, frames, **VIDEOS[name])
    config = ADAPTIVE
    whole = scan(probe(path, path, "v"), path, config)
    assert len(whole.clips) >= 6 and whole.num_decoded_frames > NUM_FRAMES - 12
    duration_s = whole.clips[-1].clip.span.end_s - whole.clips[0].clip.span.start_s
    plans = [plan_parts(path, duration_s / count) for count in (2.9, 6)]
    assert len(plans[0]) >= 2 and len(plans[1]) >= 3
    for parts in plans:
        outcomes = measured(path, parts, config)
        assert all(isinstance(outcome, Measured) for outcome in outcomes), outcomes
        assert all(before.end_pts == after.pts[0] for before, after in pairwise(outcomes))
        assert assemble(outcomes, config) == whole


@pytest.mark.parametrize("name", ["b_frames.mp4", "irregular.mp4", "slow.mp4"])
def test_parts_give_what_one_pass_gives_to_a_detector_that_looks_far(
    frames: np.ndarray, write_video: Callable[..., str], name: str
) -> None:
    rgb = frames.copy()
    rgb[100:110] = rgb[200:212] = 0
    path = write_video(name, rgb, **VIDEOS[name])
    config = ADAPTIVE.model_copy(update={"detector": WindowedConfig()})
    whole = scan(probe(path, path, "v"), path, config)
    duration_s = whole.clips[-1].clip.span.end_s - whole.clips[0].clip.span.start_s
    parts = plan_parts(path, duration_s / 3, config.detector.build().window.warm_frames)
    assert len(parts) >= 2
    assert assemble(measured(path, parts, config), config) == whole
    assert [clip.clip.num_frames for clip in whole.clips][:2] == [100, 90]
    unaware = plan_parts(path, duration_s / 3)
    if any(part.num_warm < config.detector.build().window.warm_frames for part in measured(path, unaware, config)[1:]):
        assert assemble(measured(path, unaware, config), config) is None


@pytest.mark.parametrize(
    "name",
    ["b_frames.mp4", "long_groups.mp4", "open_gop.mp4", "edit_list.mp4", "irregular.mp4", "open_gop.ts", "hevc.mp4"],
)
def test_parts_of_a_fast_pass_give_what_one_fast_pass_gives(
    frames: np.ndarray, write_video: Callable[..., str], name: str
) -> None:
    path = write_video(name, frames, **VIDEOS[name])
    config = ScanConfig(detector=AdaptiveConfig(), decode="fast")
    video = probe(path, path, "v")
    whole = scan(video, path, config)
    full = scan(video, path, ADAPTIVE)
    assert [clip.clip for clip in whole.clips] == [clip.clip for clip in full.clips]
    assert name == "irregular.mp4" or whole != full
    duration_s = whole.clips[-1].clip.span.end_s - whole.clips[0].clip.span.start_s
    for count in (2.9, 6):
        parts = plan_parts(path, duration_s / count)
        assert len(parts) >= 2
        assert assemble(measured(path, parts, config), config) == whole


def by_parts(path: str, part_s: float, config: ScanConfig) -> Any:
    """As a driver does it: parts, and the whole where they do not fit."""
    parts = plan_parts(path, part_s)
    outcome = assemble(measured(path, parts, config), config) if parts != (WHOLE,) else None
    return ScanStage(config).process([source(path)])[0] if outcome is None else outcome


def test_part_that_saw_another_past_than_the_one_before_it_ended_with_is_refused(
    frames: np.ndarray, write_video: Callable[..., str]
) -> None:
    path, config = write_video("a.mp4", frames), ADAPTIVE
    frame = int(1 / (24 * probe(path, path, "v").time_base))
    first, second, *rest = plan_parts(path, 3.0)
    assert second.warm_pts is not None and second.start_pts is not None
    assert isinstance(assemble(measured(path, [first, second, *rest], config), config), Scanned)
    for wrong in (
        [first, replace(second, warm_pts=second.warm_pts + frame), *rest],
        [first, replace(second, start_pts=second.start_pts + frame), *rest],
        [first, *rest],
    ):
        assert assemble(measured(path, wrong, config), config) is None


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_damaged_file_ends_as_in_one_pass(
    frames: np.ndarray, write_video: Callable[..., str], tmp_path: Path, name: str
) -> None:
    data = np.fromfile(
        write_video(name, frames[:200], **({"container": "mpegts"} if name == "a.ts" else {})), np.uint8
    )
    rng = np.random.default_rng(1)
    kinds = set()
    for count in (1, 1, 2, 8, 40):
        damaged = data.copy()
        damaged[rng.integers(len(data) // 10, len(data), count)] ^= rng.integers(1, 256, count, dtype=np.uint8)
        path = str(tmp_path / "damaged")
        damaged.tofile(path)
        (whole,) = ScanStage(ADAPTIVE).process([source(path)])
        assert by_parts(path, 2.0, ADAPTIVE) == whole
        kinds.add(type(whole))
    assert Failure in kinds


def test_what_may_end_differently_next_time_is_the_outcome_of_the_file(
    frames: np.ndarray, write_video: Callable[..., str]
) -> None:
    path, config = write_video("a.mp4", frames), ADAPTIVE
    parts = plan_parts(path, 3.0)
    outcomes = measured(path, parts, config)
    late = Failure(subject=path, step="scan", kind=FailureKind.TIMEOUT, detail="late")
    assert assemble([*outcomes[:-1], late], config) == late
    assert assemble([*outcomes[:-1], replace(late, kind=FailureKind.CORRUPT)], config) is None


def test_only_long_files_that_can_be_sought_in_are_divided(
    frames: np.ndarray, write_video: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    long = write_video("long.mp4", frames)
    assert len(plan_parts(long, 4.0)) == 3
    assert plan_parts(long, None) == plan_parts(long, 10.0) == (WHOLE,)
    undivided = [
        write_video("a.avi", frames[:100], codec="mpeg4"),
        write_video("a.h264", frames[:100], container="h264"),
        write_video("one_group.mp4", frames[:100], gop=1000),
        str(tmp_path / "text.mp4"),
        str(tmp_path / "nowhere.mp4"),
    ]
    assert [plan_parts(path, 1.0) for path in undivided] == [(WHOLE,)] * len(undivided)
    (identified,) = IdentifyStage(ScanConfig(detector=AdaptiveConfig(), part_s=10.0)).process([source(long)])
    assert isinstance(identified, Identified) and identified.parts == (WHOLE,)
