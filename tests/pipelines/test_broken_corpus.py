"""A corpus in which nearly everything is broken: each file ends as clips or as a typed failure, and nothing hangs."""

import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from curate.dataset.dataset import Dataset
from curate.media.decode import decode_clip
from curate.schema import FailureKind
from curate.shards.tar import TarReader, read_member
from curate.shards.verify import verify_index
from pipelines.cli import main
from pipelines.config import load_config
from pipelines.drivers.curate import CurateSummary, curate
from tests.support.corpus import MANY_PARTS, broken_corpus

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

KEEP_ALL = ["duration_s", "short_side_px", "motion", "luminance", "black_fraction", "freeze_fraction",
            "flash_rate", "fade_fraction", "letterbox_fraction"]  # fmt: skip
OVERRIDES = [
    "execute.executor=local",
    "scan.detector.kind=adaptive",
    "scan.time_limit_s=20",
    f"score.scorers={MANY_PARTS['score.scorers']}",
    "dedup.perceptual.enabled=false",  # most of the good files show the same: each is to be cut
    *(f"select.rules.{rule}=null" for rule in KEEP_ALL),
]

EXPECTED = {
    "ok": {"good.mp4", "source.mkv", "linked.mp4", "folder.mp4/inside.mp4", "video_named.jpg", "video_named.txt",
           "image.png", "image_named.mp4", "one_frame.mp4", "one_pixel.mkv", "two_pixels_wide.mp4", "8k.mp4",
           "size_grows.h264", "size_shrinks.h264", "jumps_ahead.mkv", "jumps_far_ahead.mkv", "gap.mkv",
           "time_restarts.ts", "clock_wraps.ts", "negative_times.mp4", "huge_duration.mp4", "huge_duration.mkv",
           "zero_fps.avi", "zero_rate.avi", "zero_timescale.mp4", "a b.mp4", "new\nline.mp4", "ü日本🎬.mp4",
           "http:x.mp4", "frame%03d.mp4", "-o.mp4", "[1-3]*?.mp4", "quote'\".mp4", "a" * 240 + ".mp4",
           "no_extension", "UPPER.MP4"},
    "truncated": {"truncated_10.mp4", "truncated_60.mp4", "truncated_99.mp4", "image_cut.png"},
    "corrupt": {"flipped_0.mkv", "flipped_1.mkv", "flipped_2.mkv", "flipped_3.mkv"},
    "too_large": {"image_huge.png"},
    "empty_file": {"zero_length.mp4"},
    "not_media": {"one_byte.mp4", "zeros.mp4", "noise.mp4", "noise.mpg", "text.mp4", "notes.txt", "playlist.m3u8",
                  "playlist.mp4", "list.ffconcat", "concat.mp4", "pipe.mp4", "huge_sample_count.mp4"},
    "no_video_stream": {"audio_only.wav", "audio_only.mp4"},
    "missing": {"dangling.mp4"},
    "io": {"circle.mp4", "caf\\udce9.mp4"},
}  # fmt: skip


PASSED_OVER = ("audio_only.wav", "list.ffconcat", "notes.txt", "playlist.m3u8", "video_named.txt")
"""In a folder; as inputs of their own they are tried."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return broken_corpus(tmp_path_factory.mktemp("broken"))


@pytest.fixture(scope="module")
def curated(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[CurateSummary, Path]:
    out = tmp_path_factory.mktemp("curated") / "dataset"
    inputs = [str(files["good.mp4"].parent), *(str(files[name]) for name in PASSED_OVER)]
    return curate(inputs, str(out), load_config(overrides=OVERRIDES)), out


def outcomes(out: Path, folder: Path) -> dict[str, str]:
    rows = Dataset(str(out)).videos.rows()
    return {os.path.relpath(row["uri"], folder): row["failure"] or row["outcome"] for row in rows}


def test_each_file_ends_as_its_trouble_says(curated: tuple[CurateSummary, Path], files: dict[str, Path]) -> None:
    got = outcomes(curated[1], files["good.mp4"].parent)
    expected = {name: kind for kind, names in EXPECTED.items() for name in names}
    readable = os.access(files["unreadable.mp4"], os.R_OK)
    expected["unreadable.mp4"] = "ok" if readable else "permission"
    assert {name: kind for name, kind in got.items() if name in expected} == expected
    others = got.keys() - expected.keys()
    assert others == {f"flipped_{seed}.mp4" for seed in range(8)}
    # Damage all over an MP4, its header too: what is hit is chance, but there is a word for it.
    assert {got[name] for name in others} <= {"ok", *map(str, FailureKind)}
    assert len(got) == len(files)


def test_counts_add_up(curated: tuple[CurateSummary, Path], files: dict[str, Path]) -> None:
    summary, out = curated
    dataset = Dataset(str(out))
    rows = dataset.videos.rows()
    failed = {row["uri"]: row for row in rows if row["outcome"] == "failed"}
    assert summary.num_inputs == len(files) == len(rows)
    assert summary.num_failed_inputs == len(failed)
    of_scan = [row for row in dataset.failures.rows() if row["step"] == "scan"]
    assert {row["subject"]: row["kind"] for row in of_scan} == {uri: row["failure"] for uri, row in failed.items()}
    assert all(row["detail"] and row["retry_command"] for row in of_scan)
    funnel = summary.funnel
    assert sum(funnel.get(decision, 0) for decision in ("keep", "reject", "pending", "failed")) == funnel["clips"]
    assert funnel["keep"] == summary.num_indexed
    clips = pq.read_table(out / "clips.parquet").to_pylist()
    assert {clip["video_id"] for clip in clips} == {row["video_id"] for row in rows if row["outcome"] == "ok"}


def test_what_no_clip_can_hold_is_a_failure_of_that_clip(curated: tuple[CurateSummary, Path]) -> None:
    clips = pq.read_table(curated[1] / "clips.parquet").to_pylist()
    failed = {Path(clip["video_uri"]).name: clip["reasons"] for clip in clips if clip["decision"] == "failed"}
    assert failed == {"jumps_far_ahead.mkv": ["cut"]}
    assert {clip["decision"] for clip in clips} == {"keep", "failed"}


def test_every_kept_clip_can_be_read(curated: tuple[CurateSummary, Path]) -> None:
    _, out = curated
    rows = pq.read_table(out / "shards/index.parquet").to_pylist()
    assert verify_index(str(out / "shards"), rows) == []
    reader = TarReader(str(out / "shards"))
    for row in rows:
        rgb = decode_clip(read_member(reader, row)).rgb
        assert rgb.shape == (row["num_frames"], row["height"], row["width"], 3)
        assert rgb.dtype == np.uint8


def test_the_command_line_says_so_and_a_rerun_decodes_nothing(
    curated: tuple[CurateSummary, Path], files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    summary, out = curated
    settings = [word for override in OVERRIDES for word in ("--set", override)]
    before = outcomes(out, files["good.mp4"].parent)
    with pytest.raises(SystemExit) as ended:
        main(["curate", str(files["good.mp4"].parent), "--out", str(out), *settings])
    assert not ended.value.code
    said = dict(line.rsplit(maxsplit=1) for line in capsys.readouterr().out.splitlines() if len(line.split()) > 1)
    counts = {name.strip(): int(value) for name, value in said.items() if value.isdigit()}
    assert counts["inputs"] == summary.num_inputs
    assert counts["in the index"] == summary.num_indexed
    assert counts["frames decoded in this run"] == 0
    assert outcomes(out, files["good.mp4"].parent) == before


def test_a_folder_of_nothing_but_broken_files_is_exit_code_1(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = [str(files[name]) for name in ("zeros.mp4", "truncated_60.mp4", "playlist.m3u8", "audio_only.wav")]
    settings = [word for override in OVERRIDES for word in ("--set", override)]
    with pytest.raises(SystemExit) as ended:
        main(["curate", *broken, "--out", str(tmp_path / "dataset"), *settings])
    assert ended.value.code == 1
    said = capsys.readouterr().out
    assert "nothing was kept: 2 failed (not_media)" in said
    assert "1 failed (truncated)" in said
    assert "1 failed (no_video_stream)" in said
