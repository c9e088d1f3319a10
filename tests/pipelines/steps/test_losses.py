"""Originals out of reach: what was scanned and cut stays, and the failure is told."""

import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from curate.dataset.dataset import Dataset
from pipelines.config import Config, load_config
from pipelines.drivers.curate import curate
from pipelines.drivers.retry import retry
from pipelines.drivers.select import select
from pipelines.execute.base import ExecuteConfig
from pipelines.inspection.failures import standing_failures
from tests.support.scorers import only
from tests.support.videos import moving, write_video


def config(*overrides: str) -> Config:
    return load_config(
        overrides=["scan.detector.kind=adaptive", "score.scorers=null", "execute.executor=local", *overrides]
    )


@pytest.fixture
def films(tmp_path: Path) -> list[str]:
    """Two films, named one by one."""
    paths = [tmp_path / "films" / f"{seed}.mp4" for seed in (1, 2)]
    for seed, path in enumerate(paths):
        write_video(path, moving(seed, 1.2))
    return [str(path) for path in paths]


def derived(out: str) -> list[pa.Table]:
    return [Dataset(out).read_clips(), Dataset(out).read_index()]


def test_a_run_without_the_originals_keeps_every_row(films: list[str], tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    curate(films, out, config())
    before = derived(out)
    shutil.move(tmp_path / "films", tmp_path / "away")
    curate(films, out, config())
    retry(out, execute=ExecuteConfig(executor="local"))
    assert derived(out) == before and before[1].num_rows == 2
    assert [(row["subject"], row["kind"]) for row in standing_failures(Dataset(out))] == [
        (film, "missing") for film in films
    ]
    shutil.move(tmp_path / "away", tmp_path / "films")
    curate(films, out, config())
    assert derived(out) == before
    assert standing_failures(Dataset(out)) == []


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("shards.encode.crf=30", r"2 clips would leave the index .*\(2 by cut\)"),
        ("scan.short_side_px=96", r"2 clips would leave the index .*\(2 by scan\)"),
        (f"score.scorers={only(static_overlay={})}", r"2 clips would leave the index .*\(2 by score\)"),
    ],
)
def test_an_index_that_would_shrink_by_failures_alone_needs_a_flag(
    films: list[str], tmp_path: Path, setting: str, said: str
) -> None:
    out = str(tmp_path / "out")
    curate(films, out, config())
    before = derived(out)
    shutil.move(tmp_path / "films", tmp_path / "away")
    with pytest.raises(ValueError, match=rf"{said}.*--drop-failed"):
        curate(films, out, config(setting))
    assert derived(out) == before
    assert curate(films, out, config(setting), drop_failed=True).num_indexed == 0
    shutil.move(tmp_path / "away", tmp_path / "films")
    assert curate(films, out, config(setting)).num_indexed == 2


def test_a_policy_may_reject_what_it_likes(films: list[str], tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    curate(films, out, config())
    assert select(out, overrides=["select.rules.duration_s.min=5"]).num_indexed == 0


def test_a_file_that_is_broken_now_needs_the_flag_too(films: list[str], tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    curate(films, out, config())
    Path(films[0]).write_text("no video any more")
    with pytest.raises(ValueError, match="1 clips would leave the index"):
        curate(films, out, config())
    assert curate(films, out, config(), drop_failed=True).num_indexed == 1
