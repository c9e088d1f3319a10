"""An iterator that is run ahead in a thread of its own."""

import threading
from collections import deque
from collections.abc import Generator, Iterator
from typing import TypeVar

T = TypeVar("T")


def prefetch(items: Iterator[T], depth: int) -> Generator[T, None, None]:
    """The same items, some of them made ahead. Pays where making and using an item both leave Python (libav, OpenCV)
    and overlap. Closing the iterator ends the thread before it returns.

    Args:
        items: What to run ahead.
        depth: Most items that wait to be used.

    Raises:
        Exception: Whatever `items` raises, after the items that came before.
    """
    waiting: deque[T] = deque()
    changed = threading.Condition()
    is_closed = is_done = False
    error: BaseException | None = None

    def work() -> None:
        nonlocal error, is_done
        try:
            for item in items:
                with changed:
                    changed.wait_for(lambda: is_closed or len(waiting) < depth)
                    if is_closed:
                        return
                    waiting.append(item)
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
                item = waiting.popleft()
                changed.notify_all()
            yield item
        if error is not None:
            raise error
    finally:
        with changed:
            is_closed = True
            changed.notify_all()
        thread.join()
