import threading
import time
from collections.abc import Iterator

import pytest

from curate.media.prefetch import prefetch


def test_items_come_in_order_and_the_error_after_them() -> None:
    def items() -> Iterator[int]:
        yield from range(20)
        raise OSError("the disk is gone")

    seen = []
    with pytest.raises(OSError, match="the disk is gone"):
        for item in prefetch(items(), 3):
            seen.append(item)
    assert seen == list(range(20))


def test_closing_ends_the_thread() -> None:
    before = threading.active_count()
    endless = prefetch(iter(int, 1), 2)
    assert next(endless) == 0
    endless.close()
    assert threading.active_count() == before


def test_items_are_handed_over_in_runs_and_the_rest_at_the_end() -> None:
    made = []

    def items() -> Iterator[int]:
        for number in range(10):
            made.append(number)
            yield number

    ahead = prefetch(items(), 8, at_once=4)
    assert next(ahead) == 0 and len(made) >= 4
    assert list(ahead) == list(range(1, 10))


@pytest.mark.parametrize("depth", [1, 4])
def test_items_that_wait_are_bounded(depth: int) -> None:
    made = []

    def items() -> Iterator[int]:
        for number in range(50):
            made.append(number)
            yield number

    ahead = prefetch(items(), depth)
    for used in range(10):
        assert next(ahead) == used
        deadline = time.monotonic() + 5
        # Beside those that wait, the thread holds the one that it has no room for.
        while len(made) < used + 1 + depth + 1 and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.005)
        assert len(made) == used + 1 + depth + 1
    ahead.close()
