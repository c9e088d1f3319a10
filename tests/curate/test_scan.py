import pickle
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from curate.dedup.frame_hash import TICKS_PER_SECOND
from curate.media.cut import CutConfig, cut_clip
from curate.media.decode import decode_clip
from curate.scan import IdentifyStage, ScanConfig, ScanKeys, ScanStage, SourceFile
from curate.scanned import Scanned
from curate.schema import Failure, FailureKind
from curate.shots.adaptive import AdaptiveConfig
from curate.shots.clip_ranges import ClipRangeConfig
from curate.shots.whole import WholeConfig
from curate.signals.config import SIGNAL_NAMES

LENGTHS = (30, 24, 40)
ADAPTIVE = ScanConfig(detector=AdaptiveConfig())


def source(path: str | Path) -> SourceFile:
    return SourceFile(uri=f"file://{path}", path=str(path), size_bytes=Path(path).stat().st_size)


def scanned(path: str | Path, config: ScanConfig | None = None) -> Scanned:
    (outcome,) = ScanStage(config or ADAPTIVE).process([source(path)])
    assert isinstance(outcome, Scanned), outcome
    return outcome


@pytest.fixture
def film(write_video: Callable[..., str], draw_scenes: Callable[..., np.ndarray]) -> str:
    return write_video("film.mp4", draw_scenes(LENGTHS))


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("a.mp4", {}),
        ("a.mkv", {}),
        ("a.ts", {"container": "mpegts"}),
        ("a.avi", {"codec": "mpeg4"}),
        ("a.h264", {"container": "h264"}),
        ("a.mpg", {"codec": "mpeg2video", "container": "mpeg", "options": {"b": "3000000"}}),
        ("low.mp4", {"options": {"crf": "38", "preset": "ultrafast"}}),
        ("turned.mp4", {"rotation": 90}),
    ],
)
def test_known_cuts_are_found_exactly(
    write_video: Callable[..., str], draw_scenes: Callable[..., np.ndarray], name: str, encoding: dict
) -> None:
    result = scanned(write_video(name, draw_scenes(LENGTHS), **encoding))
    assert result.num_decoded_frames == sum(LENGTHS)
    assert tuple(item.clip.num_frames for item in result.clips) == LENGTHS


def test_clips_join_without_gap_and_hold_their_frames(numbered, write_video: Callable[..., str]) -> None:
    path = write_video("a.mp4", numbered.draw(96), gop=17)
    result = scanned(path, ScanConfig(detector=WholeConfig(), pieces=ClipRangeConfig(max_duration_s=1.1)))
    spans = [item.clip.span for item in result.clips]
    assert len(spans) == 4
    assert all(before.end_pts == after.start_pts for before, after in pairwise(spans))
    numbers = [numbered.read(decode_clip(cut_clip(path, span, CutConfig()).data).rgb) for span in spans]
    assert [number for clip in numbers for number in clip] == list(range(96))
    assert [len(clip) for clip in numbers] == [item.clip.num_frames for item in result.clips]


def test_signals_are_complete_finite_and_about_their_clip(
    write_video: Callable[..., str], draw_scenes: Callable[..., np.ndarray]
) -> None:
    rgb = draw_scenes(LENGTHS)
    rgb[30:54] = 0
    rgb[54:] = rgb[54]
    moving, black, still = scanned(write_video("a.mp4", rgb)).clips
    for item in (moving, black, still):
        assert tuple(item.signals) == SIGNAL_NAMES
        assert all(np.isfinite(value) for value in item.signals.values())
    assert black.signals["black_fraction"] == 1 and black.signals["luminance"] < 0.02
    assert still.signals["freeze_fraction"] > 0.95 and still.signals["motion"] < 0.01
    assert moving.signals["freeze_fraction"] == 0 and moving.signals["motion"] > 0.1
    assert moving.signals["black_fraction"] == 0


def test_same_bytes_give_the_same_clips_under_any_name_and_the_scan_repeats_itself(film: str, tmp_path: Path) -> None:
    shutil.copy(film, tmp_path / "copy.bin")
    first, again, copy = scanned(film), scanned(film), scanned(tmp_path / "copy.bin")
    assert first == again
    assert [item.clip.clip_id for item in first.clips] == [item.clip.clip_id for item in copy.clips]
    assert [item.signals for item in first.clips] == [item.signals for item in copy.clips]
    assert len({item.clip.clip_id for item in first.clips}) == len(LENGTHS)


def test_frame_hashes_are_one_per_tick_of_the_content_without_its_bars(
    write_video: Callable[..., str], draw_scenes: Callable[..., np.ndarray]
) -> None:
    rgb = np.maximum(draw_scenes((48, 30), height=96), 40)
    plain = scanned(write_video("a.mp4", rgb))
    boxed = scanned(write_video("b.mp4", np.pad(rgb, ((0, 0), (16, 16), (32, 0), (0, 0)))))
    other = scanned(write_video("c.mp4", rgb[::-1, ::-1, ::-1]))
    assert [len(item.frame_hashes) // 8 for item in plain.clips] == [2 * TICKS_PER_SECOND, TICKS_PER_SECOND * 5 // 4]
    for ours, theirs, unlike in zip(plain.clips, boxed.clips, other.clips[::-1], strict=True):
        assert theirs.signals["box_top"] > 0.1 and theirs.signals["box_left"] > 0.1
        bits, boxed_bits, unlike_bits = (
            np.unpackbits(np.frombuffer(item.frame_hashes, np.uint8)) for item in (ours, theirs, unlike)
        )
        assert np.mean(bits != boxed_bits) < 0.1 < 0.3 < np.mean(bits[: len(unlike_bits)] != unlike_bits[: len(bits)])


def test_image_is_a_clip_of_one_frame(tmp_path: Path, draw_scenes: Callable[..., np.ndarray]) -> None:
    Image.fromarray(draw_scenes([1])[0]).save(tmp_path / "a.png")
    result = scanned(tmp_path / "a.png")
    (item,) = result.clips
    assert (item.clip.kind, item.clip.num_frames, item.clip.width, item.clip.height) == ("image", 1, 160, 96)
    assert all(np.isfinite(value) for value in item.signals.values()) and item.signals["sharpness"] > 100
    assert cut_clip(str(tmp_path / "a.png"), item.clip.span, CutConfig()).ext == "png"


def test_bad_files_fail_alone_and_in_order(film: str, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("no video")
    missing = SourceFile(uri="gone.mp4", path=str(tmp_path / "gone.mp4"), size_bytes=0)
    items = [source(tmp_path / "empty.mp4"), source(film), missing, source(tmp_path / "text.mp4")]
    for stage in (
        ScanStage(ADAPTIVE),
        IdentifyStage(ADAPTIVE),
    ):
        empty, good, gone, text = stage.process(items)
        assert not isinstance(good, Failure)
        assert isinstance(empty, Failure) and empty.kind is FailureKind.EMPTY_FILE and empty.subject == items[0].uri
        assert isinstance(gone, Failure) and gone.kind is FailureKind.MISSING
        assert isinstance(text, Failure) is isinstance(stage, ScanStage)


def test_time_limit_is_a_retryable_failure(film: str) -> None:
    (outcome,) = ScanStage(ScanConfig(detector=AdaptiveConfig(), time_limit_s=1e-9)).process([source(film)])
    assert isinstance(outcome, Failure) and outcome.kind is FailureKind.TIMEOUT and outcome.retryable


def test_key_names_what_the_result_depends_on() -> None:
    def key(config: ScanConfig) -> str:
        return ScanKeys(config).of("a.mp4")

    keys = [
        key(ADAPTIVE),
        key(ScanConfig(detector=AdaptiveConfig(), short_side_px=120)),
        key(ScanConfig(detector=WholeConfig())),
        key(ScanConfig(detector=AdaptiveConfig(threshold=3))),
        key(ScanConfig(detector=AdaptiveConfig(), pieces=ClipRangeConfig(trim_s=0.1))),
    ]
    assert len(set(keys)) == len(keys)
    assert key(ScanConfig(detector=AdaptiveConfig(), time_limit_s=5, part_s=None)) == key(ADAPTIVE)


def test_stage_travels_to_a_worker(film: str) -> None:
    stage = pickle.loads(pickle.dumps(ScanStage(ADAPTIVE)))
    stage.setup()
    assert stage.process([source(film)]) == ScanStage(ADAPTIVE).process([source(film)])
