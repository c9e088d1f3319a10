"""An iterator that is run ahead in a thread of its own."""

import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import TypeVar

T = TypeVar("T")


def prefetch(
    items: Iterator[T], depth: int, *, max_bytes: int = sys.maxsize, num_bytes: Callable[[T], int] = lambda item: 0
) -> Generator[T, None, None]:
    """The same items, some of them made ahead. Pays where making and using an item both leave Python (libav, OpenCV)
    and overlap. Closing the iterator ends the thread before it returns.

    Args:
        items: What to run ahead.
        depth: Most items that wait to be used.
        max_bytes: Most bytes that the waiting items take together, or one item.
        num_bytes: What an item takes; by default 0, which bounds only the number of items.

    Raises:
        Exception: Whatever `items` raises, after the items that came before.
    """
    waiting: deque[tuple[T, int]] = deque()
    changed = threading.Condition()
    is_closed = is_done = False
    error: BaseException | None = None
    held = 0

    def may_go_on(size: int) -> bool:
        return is_closed or not waiting or (len(waiting) < depth and held + size <= max_bytes)

    def work() -> None:
        nonlocal error, held, is_done
        try:
            for item in items:
                size = num_bytes(item)
                with changed:
                    changed.wait_for(partial(may_go_on, size))
                    if is_closed:
                        return
                    waiting.append((item, size))
                    held += size
                    changed.notify_all()
        except BaseException as raised:
            error = raised
        with changed:
            is_done = True
            changed.notify_all()

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            with changed:
                changed.wait_for(lambda: waiting or is_done)
                if not waiting:
                    break
                item, size = waiting.popleft()
                held -= size
                changed.notify_all()
            yield item
        if error is not None:
            raise error
    finally:
        with changed:
            is_closed = True
            changed.notify_all()
        thread.join()
