"""What nothing refers to is found, shown, and removed when told; what a writer or reader may need stays."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from curate.dataset.schemas import LATENTS
from curate.dataset.store import Table
from curate.shards.tar import write_tar
from curate.storage.lease import Occupied, hold
from curate.storage.publish import publish
from pipelines.cli import main
from pipelines.inspection.vacuum import orphans, vacuum
from pipelines.inspection.verify import verify
from tests.support.curated import caption, copied, curated
from tests.support.snapshot import differences, snapshot


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    made = curated(tmp_path_factory.mktemp("original"))
    caption(made.dataset)
    return made


@pytest.fixture
def made(original: SimpleNamespace, tmp_path: Path) -> SimpleNamespace:
    return copied(original, tmp_path)


def litter(made: SimpleNamespace) -> set[str]:
    """One of each kind that kills leave."""
    unfinished = f".train-000000.tar.{0:032x}.tmp"
    (made.out / "shards" / unfinished).write_bytes(bytes(1000))
    write_tar(f"{made.out}/shards/train-000009.tar", [("clip", {"mp4": b"x"})])
    root = made.out / "latents/abc"
    for number in (0, 1):
        write_tar(f"{root}/train-{number:06d}.tar", [("clip", {"safetensors": b"x"})])
    row = {"clip_id": "clip", "window": 0, "split": "train", "shard": "train-000001.tar", "offset": 512, "size": 1}
    parts = Table(f"{root}/parts", LATENTS, ["clip_id"])
    parts.publish([{**row, "shard": "train-000000.tar"}])
    parts.publish([row])  # encoded again
    for value in range(3):
        made.dataset.videos.publish([{"uri": f"{value}", "scan_key": "another", "outcome": "ok"}])
    merged = made.dataset.videos.part_names()
    kept = {name: (made.out / "tables/videos" / name).read_bytes() for name in merged}
    made.dataset.videos.compact(max_parts=1)
    for name, data in kept.items():  # as if it was killed before it removed them
        (made.out / "tables/videos" / name).write_bytes(data)
    (made.out / "cache/pieces").mkdir(parents=True)
    (made.out / "cache/pieces/abc").write_bytes(b"x")
    return {f"shards/{unfinished}", "shards/train-000009.tar", "cache/pieces/abc", "latents/abc/train-000000.tar"} | {
        f"tables/videos/{name}" for name in kept
    }


def test_a_sound_dataset_has_nothing_to_remove(made: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["vacuum", made.url, "--delete", "--older-than", "0"])
    assert "0 files removed" in capsys.readouterr().out
    assert [problem for check in verify(made.url, None) for problem in check.problems] == []


def test_what_kills_leave_is_shown_and_then_removed_and_nothing_else(
    made: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = litter(made)
    before = snapshot(made.out)
    files = {str(path.relative_to(made.out)) for path in made.out.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit):
        main(["vacuum", made.url, "--older-than", "0"])
    said = capsys.readouterr().out
    assert f"{len(expected)} files can go" in said
    assert {str(path.relative_to(made.out)) for path in made.out.rglob("*") if path.is_file()} == files
    assert {orphan.path for orphan in vacuum(made.url, 0)} == expected
    assert {str(path.relative_to(made.out)) for path in made.out.rglob("*") if path.is_file()} == files - expected
    changed = differences(before, snapshot(made.out))
    assert changed == ["latents/abc/train-000000.tar: missing", "shards/train-000009.tar: missing"]
    assert orphans(made.url, 0) == []


def test_what_is_recent_stays_but_for_what_nobody_writes_any_more(made: SimpleNamespace) -> None:
    litter(made)
    assert [orphan.path for orphan in vacuum(made.url)] == [f"shards/.train-000000.tar.{0:032x}.tmp"]
    old = made.out / "shards/train-000009.tar"
    os.utime(old, (0, 0))
    assert [orphan.path for orphan in vacuum(made.url)] == ["shards/train-000009.tar"]


def test_nothing_goes_while_a_writer_lives(made: SimpleNamespace) -> None:
    litter(made)
    for name in ("curate", "captions", "latents"):
        with hold(made.url, name), pytest.raises(Occupied):
            vacuum(made.url, 0)
    with publish(f"{made.out}/shards/train-000010.tar") as file:  # of a worker whose driver was killed
        file.write(b"half")
        assert not any("000010" in orphan.path for orphan in vacuum(made.url, 0))
    assert (made.out / "shards/train-000010.tar").read_bytes() == b"half"


def test_a_folder_that_is_no_dataset_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards/train-000000.tar").write_bytes(b"somebody's")
    with pytest.raises(ValueError, match="is no dataset"):
        vacuum(str(tmp_path), 0)
    assert (tmp_path / "shards/train-000000.tar").exists()
