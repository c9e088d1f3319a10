"""Results are handed out while the lease is held, each once, whatever the interval."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from curate.dataset.dataset import Dataset
from curate.schema import Failure, FailureKind
from pipelines.execute.base import Resources
from pipelines.execute.local import LocalExecutor
from pipelines.execute.work import Results, Work, failures_of, finished, values_of


class Halve:
    step = "halve"

    def setup(self) -> None: ...

    def process(self, items: Sequence[int]) -> list[int | Failure]:
        return [item // 2 if item % 2 == 0 else self.give_up(item, FailureKind.MODEL, "odd", 1) for item in items]

    def give_up(self, item: int, kind: FailureKind, detail: str, attempts: int) -> Failure:
        return Failure(subject=str(item), step=self.step, kind=kind, detail=detail, attempts=attempts)


def portions(dataset: Dataset, every_s: float) -> list[Results]:
    work = Work(stage=Halve(), items=[2, 3, 4], resources=Resources(), name="halve")
    return list(finished(dataset, LocalExecutor(), work, every_s))


def test_every_result_is_handed_out_once(tmp_path: Path):
    dataset = Dataset(str(tmp_path))
    assert [len(results) for results in portions(dataset, 0)] == [1, 1, 1]
    (all_at_the_end,) = portions(dataset, 3600)
    assert values_of(all_at_the_end) == [1, 2]
    assert [failure.subject for failure in failures_of(all_at_the_end)] == ["3"]


def test_nothing_is_handed_out_without_the_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    dataset = Dataset(str(tmp_path))

    def lost() -> None:
        raise RuntimeError("lost")

    monkeypatch.setattr(dataset, "check_writer", lost)
    with pytest.raises(RuntimeError, match="lost"):
        portions(dataset, 3600)
