"""An iterator that is run ahead in a thread of its own."""

import threading
from collections.abc import Iterator
from queue import Full, Queue
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.1


def prefetch(items: Iterator[T], depth: int) -> Iterator[T]:
    """The same items, at most `depth` of them made ahead. Pays where making and using an item both leave Python
    (libav, OpenCV), so that they overlap. Closing the iterator ends the thread before it returns.

    Raises:
        Exception: Whatever `items` raises, after the items that came before.
    """
    queue: Queue[tuple[T, None] | tuple[None, BaseException | None]] = Queue(depth)
    is_closed = threading.Event()

    def put(entry: tuple[T, None] | tuple[None, BaseException | None]) -> None:
        while not is_closed.is_set():
            try:
                return queue.put(entry, timeout=POLL_S)
            except Full:
                continue

    def work() -> None:
        try:
            for item in items:
                if is_closed.is_set():
                    return
                put((item, None))
        except BaseException as error:
            put((None, error))
        else:
            put((None, None))

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item, error = queue.get()
            if error is not None:
                raise error
            if item is None:
                return
            yield item
    finally:
        is_closed.set()
        thread.join()
