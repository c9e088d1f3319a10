"""Folders of checkpoints on a filesystem without renames of folders: fsspec's own in memory."""

import json

import pytest

from curate.storage.place import AnyPath, path_of
from train.run.checkpoint import list_checkpoints
from train.run.commit import begin_folder, publish_folder, remove_folder, remove_left_over
from train.run.storage import damaged, file_digest, write_checksums


@pytest.fixture(params=["local", "remote"])
def run(request: pytest.FixtureRequest, tmp_path) -> AnyPath:
    return tmp_path if request.param == "local" else path_of(f"memory://commit{tmp_path}")


def write(folder: AnyPath, text: str = "1") -> None:
    """Everything of a checkpoint except its name."""
    draft = begin_folder(folder)
    (draft / "state.json").write_text(json.dumps({"step": text}))
    write_checksums(draft, {"state.json": file_digest(draft / "state.json")})


def names(run: AnyPath) -> list[str]:
    return [folder.name for folder in list_checkpoints(run / "checkpoints")]


def test_a_folder_is_there_when_it_is_published(run: AnyPath) -> None:
    folder = run / "checkpoints" / "step-000001"
    write(folder)
    assert names(run) == []
    publish_folder(folder)
    assert names(run) == ["step-000001"]
    assert damaged(list_checkpoints(run / "checkpoints")[0]) == []
    assert sorted(path.name for path in folder.iterdir()) == ["checksums.json", "state.json"]


def test_a_folder_that_is_begun_again_has_nothing_of_before(run: AnyPath) -> None:
    folder = run / "checkpoints" / "step-000001"
    (begin_folder(folder) / "__9_0.distcp").write_text("of an earlier number of ranks")
    write(folder)
    publish_folder(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["checksums.json", "state.json"]


def test_what_a_killed_training_left_is_removed_and_what_is_whole_stays(run: AnyPath) -> None:
    whole, half = (run / "checkpoints" / f"step-00000{step}" for step in (1, 2))
    write(whole)
    publish_folder(whole)
    write(half)
    remove_left_over(run)
    assert names(run) == ["step-000001"]
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-000001"]


def test_a_removed_folder_is_gone(run: AnyPath) -> None:
    folder = run / "checkpoints" / "step-000001"
    write(folder)
    publish_folder(folder)
    remove_folder(folder)
    assert names(run) == []
    assert not (folder / "state.json").exists()
