"""The step that scans: what a kill leaves of it, and inputs that come later."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.dataset.dataset import Dataset
from curate.media.probe import content_id
from pipelines.config import Config, load_config
from pipelines.drivers.curate import curate
from pipelines.drivers.retry import failing
from pipelines.execute.base import Resources
from pipelines.execute.local import LocalExecutor
from pipelines.inputs.listing import list_sources
from pipelines.steps.run import CurateRun
from pipelines.steps.scan import scan
from tests.support.videos import moving, write_video


def config(*overrides: str) -> Config:
    return load_config(
        overrides=["scan.detector.kind=adaptive", "score.scorers=null", "execute.executor=local", *overrides]
    )


@dataclass
class Interrupted:
    """This process, until so many outcomes; notes what it was given."""

    num_outcomes: int
    given: dict[str, list[str]] = field(default_factory=dict)

    def run(self, stage: Any, items: Sequence[Any], resources: Resources) -> Iterator[tuple[Any, Any]]:
        self.given.setdefault(stage.step, []).extend(item.uri for item in items)
        for outcome in LocalExecutor().run(stage, items, resources):
            self.num_outcomes -= 1
            if self.num_outcomes < 0:
                raise KeyboardInterrupt
            yield outcome

    def under_way(self) -> dict[str, float]:
        return {}


def scan_until(films: Path, out: Path, num_outcomes: int, *overrides: str) -> Interrupted:
    sources, _ = list_sources([str(films)])
    listed = {source.uri: source.version for source in sources}
    run = CurateRun(Dataset(str(out)), config("execute.publish_every_s=1e-9", *overrides), "again", listed)
    executor = Interrupted(num_outcomes)
    try:
        scan(run, executor, sources, [], [str(films)])
    except KeyboardInterrupt:
        assert num_outcomes < 99
    return executor


def test_what_was_identified_before_a_kill_is_not_hashed_again(tmp_path: Path) -> None:
    films, out = tmp_path / "films", tmp_path / "out"
    for seed in range(4):
        write_video(films / f"{seed}.mp4", moving(seed, 1))
    (films / "4.mp4").write_bytes((films / "0.mp4").read_bytes())
    paths = [str(films / f"{number}.mp4") for number in range(5)]
    assert scan_until(films, out, 3).given == {"identify": paths}
    again = scan_until(films, out, 99)
    assert again.given["identify"] == paths[3:]
    assert sorted(again.given["scan"]) == paths[:4], "equal bytes are scanned once"
    assert [row["outcome"] for row in Dataset(str(out)).videos.rows()] == ["ok"] * 5


def test_a_file_that_changed_after_a_kill_is_hashed_again(tmp_path: Path) -> None:
    films, out = tmp_path / "films", tmp_path / "out"
    write_video(films / "0.mp4", moving(0, 1))
    scan_until(films, out, 1)
    (before,) = Dataset(str(out)).identities.rows()
    write_video(films / "0.mp4", moving(1, 1.5))
    scan_until(films, out, 99)
    (row,) = Dataset(str(out)).videos.rows()
    assert row["video_id"] != before["video_id"]


def test_a_long_file_keeps_its_parts_over_a_kill(tmp_path: Path) -> None:
    write_video(tmp_path / "films/long.mp4", np.concatenate([moving(seed, 5) for seed in range(5)]))
    scan_until(tmp_path / "films", tmp_path / "out", 1, "scan.part_s=10")
    again = scan_until(tmp_path / "films", tmp_path / "out", 99, "scan.part_s=10")
    assert (len(again.given["identify"]), len(again.given["scan"])) == (0, 2)
    other = scan_until(tmp_path / "films", tmp_path / "out", 99, "scan.part_s=null", "scan.short_side_px=96")
    assert (len(other.given["identify"]), len(other.given["scan"])) == (1, 1), (
        "parts of another length are planned anew"
    )


@pytest.mark.parametrize("later", ["later", "later/*.mp4"])
def test_an_input_that_was_missing_and_is_found_no_longer_stands_as_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "v/a.mp4", moving(1, 1.2))
    inputs, out = [str(tmp_path / "v"), later, "never"], str(tmp_path / "out")
    first = curate(inputs, out, config())
    assert (first.num_inputs, first.num_failed_inputs) == (3, 2)
    write_video(tmp_path / "later/c.mp4", moving(2, 1.2))
    then = curate(inputs, out, config())
    assert (then.num_inputs, then.num_failed_inputs) == (3, 1)
    ((group,), _) = failing(out)
    assert (group.kind, group.num_failed) == ("missing", 1)


@pytest.mark.parametrize("step", ["identify", "scan"])
def test_a_file_that_is_still_written_fails_and_is_scanned_when_it_is_whole(tmp_path: Path, step: str) -> None:
    films, out = tmp_path / "films", tmp_path / "out"
    write_video(films / "0.mp4", moving(0, 1))
    write_video(films / "1.mp4", moving(1, 1))

    class Uploading(Interrupted):
        def run(self, stage: Any, items: Sequence[Any], resources: Resources) -> Iterator[tuple[Any, Any]]:
            if stage.step == step:
                write_video(films / "0.mp4", moving(2, 1.5))
            yield from super().run(stage, items, resources)

    sources, _ = list_sources([str(films)])
    run = CurateRun(Dataset(str(out)), config(), "again", {source.uri: source.version for source in sources})
    scan(run, Uploading(99), sources, [], [str(films)])
    failed, whole = sorted(Dataset(str(out)).videos.rows(), key=lambda row: row["uri"])
    assert (failed["failure"], whole["outcome"]) == ("changed", "ok")
    scan_until(films, out, 99)
    rows = sorted(Dataset(str(out)).videos.rows(), key=lambda row: row["uri"])
    assert [row["outcome"] for row in rows] == ["ok", "ok"]
    assert rows[0]["video_id"] == content_id(str(films / "0.mp4"))
