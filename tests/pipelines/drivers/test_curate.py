"""The curation road on tiny generated videos, without models."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset

from curate.dataset.dataset import Dataset
from curate.media.decode import decode_clip
from curate.media.encode import encode_mp4
from curate.shards.tar import TarReader, read_member
from curate.shards.verify import verify_index
from pipelines.config import Config, load_config
from pipelines.drivers.curate import CurateSummary, curate
from tests.support.videos import FPS, moving, write_video

NO_MODELS = ["scan.detector.kind=adaptive", "score.scorers=null", "execute.executor=local", "shards.clips_per_shard=2"]


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos with spaces"
    folder.mkdir()
    (folder / "two_shots.mp4").write_bytes(encode_mp4(np.concatenate([moving(1, 2), moving(2, 1.5)]), FPS))
    (folder / "tall.mp4").write_bytes(encode_mp4(moving(3, 1.5, (128, 96)), FPS))
    (folder / "copy of tall.mp4").write_bytes((folder / "tall.mp4").read_bytes())
    (folder / "still.mp4").write_bytes(encode_mp4(moving(4, 0.1).repeat(30, 0)[:30], FPS))
    (folder / "broken.mp4").write_bytes((folder / "tall.mp4").read_bytes()[:400])
    (folder / "text.mp4").write_text("no video")
    (folder / "empty.mp4").touch()
    (folder / ".hidden").touch()
    return folder


def config(*overrides: str) -> Config:
    return load_config(overrides=[*NO_MODELS, *overrides])


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def curated(videos: Path, tmp_path: Path) -> Iterator[tuple[CurateSummary, Path]]:
    out = tmp_path / "dataset"
    yield curate([str(videos)], str(out), config()), out


def test_every_input_ends_as_kept_rejected_or_failed(curated: tuple[CurateSummary, Path]) -> None:
    summary, out = curated
    outcomes = {Path(row["uri"]).name: row["failure"] or row["outcome"] for row in Dataset(str(out)).videos.rows()}
    assert outcomes == {
        "two_shots.mp4": "ok",
        "tall.mp4": "ok",
        "copy of tall.mp4": "ok",
        "still.mp4": "ok",
        "broken.mp4": "truncated",
        "text.mp4": "not_media",
        "empty.mp4": "empty_file",
    }
    assert summary.num_inputs == 7
    assert summary.num_failed_inputs == 3
    assert summary.funnel["clips"] == 4, "equal bytes at two places are one video"
    assert summary.funnel["keep"] == summary.num_indexed == 3


def test_shots_are_cut_where_they_change(curated: tuple[CurateSummary, Path]) -> None:
    clips = pq.read_table(curated[1] / "clips.parquet").to_pylist()
    spans = [(c["start_s"], c["end_s"]) for c in clips if c["video_uri"].endswith("two_shots.mp4")]
    assert spans == [(0.0, 2.0), (2.0, 3.5)]


def test_every_row_of_the_index_points_at_its_clip(curated: tuple[CurateSummary, Path]) -> None:
    _, out = curated
    rows = pq.read_table(out / "shards/index.parquet").to_pylist()
    assert verify_index(str(out / "shards"), rows) == []
    reader = TarReader(str(out / "shards"))
    for row in rows:
        clip = decode_clip(read_member(reader, row))
        assert clip.rgb.shape == (row["num_frames"], row["height"], row["width"], 3)


def test_webdataset_reads_the_shards(curated: tuple[CurateSummary, Path]) -> None:
    _, out = curated
    urls = [str(path) for path in sorted((out / "shards").glob("*.tar"))]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert {s["__key__"] for s in samples} == set(pq.read_table(out / "shards/index.parquet")["clip_id"].to_pylist())
    assert all(json.loads(s["json"])["clip_id"] == s["__key__"] for s in samples)


def test_a_rerun_decodes_nothing_and_changes_no_byte(curated: tuple[CurateSummary, Path], videos: Path) -> None:
    _, out = curated
    before = tree(out)
    again = curate([str(videos)], str(out), config())
    assert again.num_frames_decoded == 0
    assert tree(out) == before


def test_another_threshold_decodes_nothing(curated: tuple[CurateSummary, Path], videos: Path) -> None:
    _, out = curated
    strict = curate([str(videos)], str(out), config("select.rules.duration_s.min=1.8"))
    assert strict.num_frames_decoded == 0
    assert strict.funnel["reject:duration_s.min"] == 2
    assert strict.num_indexed == 1


def test_a_new_video_is_all_that_a_rerun_processes(curated: tuple[CurateSummary, Path], videos: Path) -> None:
    _, out = curated
    before = tree(out / "shards")
    (videos / "new.mp4").write_bytes(encode_mp4(moving(9, 2), FPS))
    again = curate([str(videos)], str(out), config())
    assert again.num_frames_decoded == 2 * 2 * FPS, "one pass to scan, one to cut"
    assert again.num_indexed == 4
    assert {name: data for name, data in tree(out / "shards").items() if name in before and name.endswith("tar")} == {
        name: data for name, data in before.items() if name.endswith("tar")
    }, "shards are written once"


def test_changed_bytes_under_the_same_name_are_a_new_video(curated: tuple[CurateSummary, Path], videos: Path) -> None:
    _, out = curated
    (videos / "two_shots.mp4").write_bytes(encode_mp4(moving(7, 3), FPS))
    again = curate([str(videos)], str(out), config())
    uris = [c["video_uri"] for c in pq.read_table(out / "clips.parquet").to_pylist()]
    assert sum(uri.endswith("two_shots.mp4") for uri in uris) == 1
    assert again.num_indexed == 2


def test_ids_do_not_depend_on_where_the_files_lie(videos: Path, tmp_path: Path) -> None:
    curate([str(videos)], str(tmp_path / "a"), config())
    moved = videos.rename(tmp_path / "elsewhere")
    curate([str(moved)], str(tmp_path / "b"), config())
    ids = [pq.read_table(tmp_path / name / "clips.parquet")["clip_id"].to_pylist() for name in ("a", "b")]
    assert ids[0] == ids[1]


def test_a_missing_input_is_a_failure_and_the_run_goes_on(videos: Path, tmp_path: Path) -> None:
    summary = curate([str(videos / "tall.mp4"), str(tmp_path / "nowhere")], str(tmp_path / "out"), config())
    assert [(f.subject, str(f.kind)) for f in summary.failures] == [(str(tmp_path / "nowhere"), "missing")]
    assert summary.num_indexed == 1


def test_a_dataset_inside_the_input_folder_is_no_input(videos: Path) -> None:
    for _ in range(2):
        assert curate([str(videos)], str(videos / "dataset"), config()).num_inputs == 7


def test_an_empty_folder_keeps_nothing_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    summary = curate([str(tmp_path / "empty")], str(tmp_path / "out"), config())
    assert summary.num_indexed == 0
    assert "1 failed (missing)" in summary.why_nothing


def test_files_that_cannot_be_inputs_are_failures_and_the_others_go_on(videos: Path, tmp_path: Path) -> None:
    (videos / "dangling.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (Path(os.fsdecode(os.fsencode(videos) + b"/caf\xe9.mp4"))).write_bytes(b"")
    summary = curate([str(videos)], str(tmp_path / "out"), config())
    kinds = {Path(failure.subject).name: str(failure.kind) for failure in summary.failures}
    assert kinds["dangling.mp4"] == "missing"
    assert kinds["caf\\udce9.mp4"] == "io"
    assert summary.num_indexed == 3


def test_globs_name_files(videos: Path, tmp_path: Path) -> None:
    assert curate([str(videos / "t*.mp4")], str(tmp_path / "out"), config()).num_inputs == 3


def test_a_dataset_behind_a_url_holds_the_same(curated: tuple[CurateSummary, Path], videos: Path) -> None:
    remote = "memory://curated/dataset"
    curate([str(videos)], remote, config())
    local = pq.read_table(curated[1] / "clips.parquet")
    assert Dataset(remote).read_clips().equals(local)
    index = Dataset(remote).read_index().to_pylist()
    assert verify_index(f"{remote}/shards", index) == []


@pytest.mark.ray
@pytest.mark.usefixtures("private_ray")
def test_ray_and_this_process_write_the_same_dataset(
    curated: tuple[CurateSummary, Path], videos: Path, tmp_path: Path
) -> None:
    curate([str(videos)], str(tmp_path / "ray"), config("execute.executor=ray"))
    here, there = tree(curated[1]), tree(tmp_path / "ray")
    for name in ("clips.parquet", "shards/index.parquet", *(n for n in here if n.endswith(".tar"))):
        assert here[name] == there[name], name


def test_a_file_scanned_in_parts_gives_the_same_clips(tmp_path: Path) -> None:
    shots = np.concatenate([moving(seed, 5) for seed in range(5)])
    write_video(tmp_path / "films" / "long.mp4", shots)
    for name, part_s in (("whole", "null"), ("parts", "10")):
        summary = curate([str(tmp_path / "films")], str(tmp_path / name), config(f"scan.part_s={part_s}"))
        assert summary.num_frames_decoded == 2 * len(shots), "one pass to scan, one to cut"
    whole, parts = ((tmp_path / name / "clips.parquet").read_bytes() for name in ("whole", "parts"))
    assert whole == parts
