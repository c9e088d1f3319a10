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
        for item in prefetch(items(), 3, max_bytes=100, num_bytes=lambda _: 1):
            seen.append(item)
    assert seen == list(range(20))


def test_closing_ends_the_thread() -> None:
    before = threading.active_count()
    endless = prefetch(iter(int, 1), 2, max_bytes=100, num_bytes=lambda _: 1)
    assert next(endless) == 0
    endless.close()
    assert threading.active_count() == before


@pytest.mark.parametrize(("depth", "max_bytes", "most"), [(4, 1000, 4), (100, 35, 3), (100, 5, 1)])
def test_items_that_wait_are_bounded_by_number_and_by_bytes_but_one_always_may(
    depth: int, max_bytes: int, most: int
) -> None:
    made = []

    def items() -> Iterator[int]:
        for number in range(50):
            made.append(number)
            yield number

    ahead = prefetch(items(), depth, max_bytes=max_bytes, num_bytes=lambda _: 10)
    for used in range(10):
        assert next(ahead) == used
        deadline = time.monotonic() + 5
        # Beside those that wait, the thread holds the one that it has no room for.
        while len(made) < used + 1 + most + 1 and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.005)
        assert len(made) == used + 1 + most + 1
    ahead.close()
