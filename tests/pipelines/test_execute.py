from pathlib import Path

import pytest

from curate.cut import CutStage, ShardConfig, ShardPlan
from curate.scan import Identified, IdentifyStage, ScanConfig, SourceFile
from curate.schema import Failure, FailureKind
from pipelines.execute import ExecuteConfig, Executor, LocalExecutor, Needs, RayExecutor, executor


@pytest.fixture
def files(tmp_path: Path) -> list[SourceFile]:
    """Twenty files, and every fourth is gone."""
    sources = []
    for number in range(20):
        path = tmp_path / f"{number:02d}"
        if number % 4:
            path.write_bytes(bytes([number]))
        sources.append(SourceFile(uri=path.name, path=str(path), size_bytes=1))
    return sources


def outcomes(on: Executor, files: list[SourceFile]) -> list[tuple[SourceFile, Identified | Failure]]:
    return sorted(on.run(IdentifyStage(ScanConfig()), files, Needs(batch_size=3)), key=lambda pair: pair[0].uri)


def test_every_item_has_its_own_outcome(files: list[SourceFile]) -> None:
    got = outcomes(LocalExecutor(), files)
    assert [item for item, _ in got] == files
    failed = [item.uri for item, outcome in got if isinstance(outcome, Failure)]
    assert failed == [file.uri for file in files[::4]]
    assert len({outcome.video_id for _, outcome in got if isinstance(outcome, Identified)}) == 15
    assert {outcome.kind for _, outcome in got if isinstance(outcome, Failure)} == {FailureKind.MISSING}


def test_no_items_have_no_outcomes() -> None:
    assert outcomes(LocalExecutor(), []) == []


@pytest.mark.ray
@pytest.mark.usefixtures("private_ray")
def test_ray_gives_the_same_outcomes_as_this_process(files: list[SourceFile]) -> None:
    with executor(ExecuteConfig(executor="ray")) as on:
        assert isinstance(on, RayExecutor)
        assert outcomes(on, files) == outcomes(LocalExecutor(), files)


@pytest.mark.ray
@pytest.mark.usefixtures("private_ray")
def test_an_output_that_cannot_be_written_stops_the_run_with_its_own_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    plan = ShardPlan(url=str(tmp_path / "file" / "train-000000.tar"), split="train", clips=())
    with executor(ExecuteConfig(executor="ray")) as on, pytest.raises(OSError, match="file"):
        list(on.run(CutStage(ShardConfig()), [plan], Needs()))
