import threading
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
