"""Threads of the executor in this process."""

import threading
from collections.abc import Sequence

import pytest

from curate.media.counter import count_bytes
from curate.schema import Failure, FailureKind
from pipelines.execute.base import Resources
from pipelines.execute.local import LocalExecutor
from tests.support.stages import Doubling

IN_THREADS = Resources(in_threads=True)


class Meeting(Doubling):
    """Each item waits for another one that is worked on at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.barrier = threading.Barrier(2, timeout=10)

    def process(self, items: Sequence[int]) -> list[int | Failure]:
        self.barrier.wait()
        count_bytes(items[0])
        return super().process(items)


def test_items_are_worked_on_side_by_side_where_the_stage_can() -> None:
    executor = LocalExecutor(2)
    assert sorted(executor.run(Meeting(), range(8), IN_THREADS)) == [(item, 2 * item) for item in range(8)]


def test_what_is_under_way_is_what_no_outcome_has_told() -> None:
    executor = LocalExecutor(2)
    left = 28.0
    for item, _ in executor.run(Meeting(), range(8), IN_THREADS):
        left -= item
        assert 0 <= executor.under_way()["bytes"] <= left
    assert executor.under_way()["bytes"] == left == 0


def test_a_run_level_error_of_a_thread_stops_the_run() -> None:
    with pytest.raises(OSError, match="No space"):
        list(LocalExecutor(2).run(Doubling({7: "no room"}), range(1000), IN_THREADS))


class Waiting(Doubling):
    """Odd items wait for `go`."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def process(self, items: Sequence[int]) -> list[int | Failure]:
        if items[0] % 2:
            self.go.wait()
        return super().process(items)


def test_a_run_that_is_interrupted_waits_for_no_item() -> None:
    stage = Waiting()
    run = LocalExecutor(2).run(stage, range(4), IN_THREADS)
    assert next(run) == (0, 0)
    closing = threading.Thread(target=run.close, daemon=True)  # type: ignore[attr-defined]
    closing.start()
    closing.join(10)
    assert not closing.is_alive()
    stage.go.set()


def test_an_item_that_fails_in_a_thread_fails_alone() -> None:
    results = dict(LocalExecutor(2).run(Doubling({7: "raise"}), range(20), IN_THREADS))
    failed = results.pop(7)
    assert isinstance(failed, Failure) and failed.kind is FailureKind.MODEL
    assert results == {item: 2 * item for item in range(20) if item != 7}
