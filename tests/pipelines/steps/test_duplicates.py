"""Duplicates are searched for once, and a stale result is never used."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from curate.dataset.dataset import Dataset
from pipelines.config import load_config
from pipelines.drivers.curate import curate
from pipelines.drivers.select import select
from pipelines.inspection.status import decided_now
from pipelines.steps import duplicates
from tests.support.videos import moving, write_video

FAMILIES = {"embedding-1": {"embedding": pa.list_(pa.float32())}}
SETTINGS = ["scan.detector.kind=adaptive", "score.scorers=null", "execute.executor=local"]
BY_MEANING = "dedup.semantic.min_similarity=0.95"


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    for seed in range(3):
        write_video(folder / f"{seed}.mp4", moving(seed, 1.5))
    write_video(folder / "copy of 0.mp4", moving(0, 1.5)[:-1])
    return folder


@pytest.fixture
def dataset(films: Path, tmp_path: Path) -> Dataset:
    found = Dataset(str(tmp_path / "out"))
    curate([str(films)], found.url, load_config(overrides=SETTINGS))
    return found


def embed(dataset: Dataset, vectors: list[list[float]]) -> None:
    ids = sorted({row["clip_id"] for row in dataset.clips.rows()})
    rows = ({"clip_id": name, "embedding": vector} for name, vector in zip(ids, vectors, strict=True))
    dataset.scores("embedding-1", FAMILIES["embedding-1"]).publish(rows)


def found(dataset: Dataset, *overrides: str, keep: bool = True) -> tuple[dict[str, str], dict[str, int]]:
    config = load_config(overrides=[*SETTINGS, *overrides])
    groups, clusters = (
        dict(zip(*(column.to_pylist() for column in table.columns), strict=True))
        for table in map(pa.concat_tables, duplicates.find_duplicates(dataset, config, FAMILIES, keep=keep))
    )
    return groups, clusters


def forget(dataset: Dataset) -> None:
    for file in Path(dataset.url, "cache").iterdir():
        file.unlink()


def test_with_and_without_a_cache_the_same_is_found_whatever_changes(dataset: Dataset) -> None:
    first, second, third, fourth = np.eye(4).tolist()
    seen = set()
    for vectors in ([first, second, third, fourth], [first, second, second, fourth], [first, first, second, second]):
        embed(dataset, vectors)
        for overrides in (
            [],
            [BY_MEANING],
            [BY_MEANING, "dedup.balance.num_clusters=2"],
            ["dedup.perceptual.enabled=false"],
        ):
            recalled = found(dataset, *overrides)
            assert found(dataset, *overrides) == recalled
            forget(dataset)
            assert found(dataset, *overrides) == recalled
            seen.add(str(recalled))
    assert len(seen) > 5


def test_another_threshold_searches_for_nothing(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    before = dataset.read_clips()

    def search(*_: object) -> None:
        pytest.fail("searched again")

    monkeypatch.setattr(duplicates, "find_groups", search)
    monkeypatch.setattr(duplicates, "find_clusters", search)
    assert select(dataset.url, overrides=["select.rules.duration_s.min=9"]).after["reject"] == 4
    select(dataset.url, overrides=["select.rules.duration_s.min=1"])
    assert dataset.read_clips() == before
    assert before["duplicate_group"].null_count == before.num_rows - 2


def test_what_is_no_table_is_searched_for_again(dataset: Dataset) -> None:
    groups, clusters = found(dataset)
    for file in Path(dataset.url, "cache").iterdir():
        file.write_bytes(b"half a fi")
    assert found(dataset) == (groups, clusters)


def test_commands_that_only_look_leave_no_cache(dataset: Dataset) -> None:
    forget(dataset)
    decided_now(dataset)
    assert not list(Path(dataset.url, "cache").iterdir())


def test_clips_that_are_there_no_more_are_no_ones_copies(dataset: Dataset) -> None:
    """Three duplicates, of which the first is gone: the other two are still copies of each other."""
    embed(dataset, [[1.0, 0.0]] * 3 + [[0.0, 1.0]])
    settings = (BY_MEANING, "dedup.perceptual.enabled=false")
    ids = sorted(found(dataset, *settings)[0])
    gone = next(row for row in dataset.clips.rows() if row["clip_id"] == ids[0])
    videos = dataset.videos.rows()
    dataset.videos.publish({**row, "outcome": "failed"} for row in videos if row["video_id"] == gone["video_id"])
    assert found(dataset, *settings)[0] == dict.fromkeys(ids[1:], ids[1])
