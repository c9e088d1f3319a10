"""The step that cuts, where some clips cannot be cut: nothing is done twice, and a kill changes nothing."""

import os
from pathlib import Path

import numpy as np
import pytest

from curate.dataset.dataset import Dataset
from curate.media.counter import frames_decoded
from curate.schema import FailureKind
from pipelines.config import Config, load_config
from pipelines.drivers.curate import CurateSummary, curate
from tests.support.snapshot import differences, snapshot
from tests.support.videos import moving, write_video

NONE_KEPT = "select.rules.duration_s.min=5"


def config(*overrides: str) -> Config:
    return load_config(
        overrides=["scan.detector.kind=adaptive", "score.scorers=null", "execute.executor=local", *overrides]
    )


def run(films: Path, out: Path, *overrides: str, retry: frozenset[FailureKind] = frozenset()) -> CurateSummary:
    return curate([str(films)], str(out), config(*overrides), retry=retry)


def spoil(film: Path) -> None:
    """Other bytes behind the back of the listing: what was scanned well can no longer be cut."""
    stat = film.stat()
    film.write_bytes(bytes(stat.st_size))
    os.utime(film, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """Three films; a fourth that is the second in a smaller size."""
    for seed in (1, 2, 3):
        write_video(tmp_path / f"films/{seed}.mp4", moving(seed, 1.2, (128, 160)))
    write_video(tmp_path / "films/small.mp4", np.ascontiguousarray(moving(2, 1.2, (128, 160))[:, ::2, ::2]))
    return tmp_path / "films"


def test_a_run_killed_after_a_clip_failed_writes_the_shards_of_an_undisturbed_one(films: Path, tmp_path: Path) -> None:
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    for out in (calm, killed):
        run(films, out, NONE_KEPT)
    spoil(films / "2.mp4")
    assert run(films, calm).num_indexed == 3, "the copy takes the place of the clip that failed"
    blocker = killed / "tables" / "shards"
    blocker.touch()  # the failures are published, the shard's rows cannot be
    with pytest.raises(OSError, match="exists"):
        run(films, killed)
    blocker.unlink()
    assert [row["kind"] for row in Dataset(str(killed)).failures.rows()] != []
    run(films, killed)
    assert differences(snapshot(calm), snapshot(killed)) == []


def test_what_was_cut_before_a_kill_is_not_cut_again(films: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    blocker = out / "tables" / "shards"
    blocker.parent.mkdir(parents=True)
    blocker.touch()  # all is cut, and no row can be published
    with pytest.raises(OSError, match="exists"):
        run(films, out)
    blocker.unlink()
    assert any((out / "cache/pieces").iterdir())
    before = frames_decoded()
    assert run(films, out).num_indexed == 3
    assert frames_decoded() == before
    assert not (out / "cache/pieces").exists()
    run(films, tmp_path / "calm")
    assert differences(snapshot(tmp_path / "calm"), snapshot(out)) == []


def test_the_clips_of_a_film_follow_each_other_in_a_shard(films: Path, tmp_path: Path) -> None:
    write_video(films / "shots.mp4", np.concatenate([moving(seed, 1.2, (128, 160)) for seed in range(4, 9)]))
    run(films, tmp_path / "out")
    rows = Dataset(str(tmp_path / "out")).shards.rows()
    clips = {row["clip_id"]: row for row in Dataset(str(tmp_path / "out")).clips.rows()}
    stored = [clips[row["clip_id"]] for row in sorted(rows, key=lambda row: row["offset"])]
    assert stored == sorted(stored, key=lambda row: (row["video_id"], row["start_pts"])) and len(stored) == 8


def test_what_a_kill_left_of_a_shard_goes_when_the_shard_is_written(films: Path, tmp_path: Path) -> None:
    shards = tmp_path / "out" / "shards"
    shards.mkdir(parents=True)
    for name in ("train-000000.tar", "train-000007.tar"):
        (shards / f".{name}.0123456789abcdef.tmp").write_bytes(b"half of it")
    run(films, tmp_path / "out")
    assert sorted(path.name for path in shards.iterdir()) == [
        ".train-000007.tar.0123456789abcdef.tmp", "index.parquet", "train-000000.tar"
    ], "another run may be writing a shard that this one did not plan"  # fmt: skip


def test_a_rerun_has_nothing_left_to_do_where_a_copy_took_the_place_of_a_clip(films: Path, tmp_path: Path) -> None:
    run(films, tmp_path / "out", NONE_KEPT)
    spoil(films / "2.mp4")
    first = run(films, tmp_path / "out")
    before = snapshot(tmp_path / "out")
    again = run(films, tmp_path / "out")
    assert first.num_indexed == again.num_indexed == first.funnel["keep"] == 3
    assert again.num_frames_decoded == 0
    assert differences(before, snapshot(tmp_path / "out")) == []


def test_the_copy_of_a_clip_that_was_cut_after_all_is_not_cut_by_the_next_run(films: Path, tmp_path: Path) -> None:
    out, film = tmp_path / "out", films / "2.mp4"
    (films / "small.mp4").rename(tmp_path / "small.mp4")
    run(films, out, NONE_KEPT)
    data, stat = film.read_bytes(), film.stat()
    spoil(film)
    assert run(films, out).num_indexed == 2
    kinds = frozenset(FailureKind(row["kind"]) for row in Dataset(str(out)).failures.rows())
    film.write_bytes(data)
    os.utime(film, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert run(films, out, retry=kinds).num_indexed == 3
    (tmp_path / "small.mp4").rename(films / "small.mp4")
    again = run(films, out)
    assert (again.num_indexed, again.funnel["reject:duplicate"]) == (3, 1)
    assert {row["shard"] for row in Dataset(str(out)).shards.rows()} == {"train-000000.tar", "train-000001.tar"}


def test_a_plan_of_a_clip_that_is_held_out_now_is_not_taken_over(films: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    blocker = out / "tables" / "shards"
    blocker.parent.mkdir(parents=True)
    blocker.touch()  # the plan is published, the shard's rows cannot be
    with pytest.raises(OSError, match="exists"):
        run(films, out)
    blocker.unlink()
    assert {row["split"] for row in Dataset(str(out)).shard_plans.rows()} == {"train"}
    assert run(films, out, 'select.split.hold_out=["*"]').num_indexed == 3
    rows = Dataset(str(out)).shards.rows()
    assert {(row["split"], row["shard"]) for row in rows} == {("val", "val-000000.tar")}
    index = Dataset(str(out)).read_index()
    assert set(index["split"].to_pylist()) == {"val"}
