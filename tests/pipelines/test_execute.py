from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from curate.schema import Failure, FailureKind
from pipelines.execute import ExecuteConfig, Executor, LocalExecutor, Needs, RayExecutor, executor


@dataclass(frozen=True)
class Square:
    """A stage with a bad item and an unwritable one."""

    name = "square"

    def setup(self) -> None:
        pass

    def process(self, items: Sequence[int]) -> list[int | Failure]:
        if 99 in items:
            raise OSError(28, "No space left on device")
        return [
            Failure(subject=str(i), step="square", kind=FailureKind.CORRUPT, detail="odd") if i % 2 else i * i
            for i in items
        ]


def outcomes(on: Executor, items: list[int]) -> list[tuple[int, int | Failure]]:
    return sorted(on.run(Square(), items, Needs(batch_size=3)), key=lambda pair: pair[0])


def test_every_item_has_its_own_outcome_locally() -> None:
    got = outcomes(LocalExecutor(), list(range(10)))
    assert [item for item, _ in got] == list(range(10))
    assert [out for _, out in got if not isinstance(out, Failure)] == [0, 4, 16, 36, 64]


def test_no_items_need_no_setup() -> None:
    assert outcomes(LocalExecutor(), []) == []


@pytest.mark.ray
@pytest.mark.usefixtures("private_ray")
def test_ray_gives_the_same_outcomes_as_this_process() -> None:
    items = list(range(25))
    with executor(ExecuteConfig(executor="ray")) as on:
        assert isinstance(on, RayExecutor)
        assert outcomes(on, items) == outcomes(LocalExecutor(), items)


@pytest.mark.ray
@pytest.mark.usefixtures("private_ray")
def test_an_output_that_cannot_be_written_stops_the_run_with_its_own_error() -> None:
    with executor(ExecuteConfig(executor="ray")) as on, pytest.raises(OSError, match="No space left"):
        outcomes(on, [1, 2, 99])
