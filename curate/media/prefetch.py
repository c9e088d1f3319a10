"""An iterator that is run ahead in a thread of its own."""

import threading
from collections.abc import Generator, Iterator
from typing import TypeVar

T = TypeVar("T")


def prefetch(items: Iterator[T], depth: int, *, at_once: int = 1) -> Generator[T, None, None]:
    """The same items, some of them made ahead. Pays where making and using an item both leave Python (libav, OpenCV)
    and overlap. Closing the iterator ends the thread before it returns.

    Args:
        items: What to run ahead.
        depth: Most items that wait to be used.
        at_once: How many items are handed over together; the last ones can be fewer. At most `depth`. Small items are
            used faster in runs: each change of threads costs the processor's caches.

    Raises:
        Exception: Whatever `items` raises, after the items that came before.
    """
    waiting: list[T] = []
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
                    if len(waiting) >= at_once:
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
                changed.wait_for(lambda: len(waiting) >= at_once or is_done)
                if not waiting:
                    break
                taken = waiting[:at_once]
                del waiting[:at_once]
                changed.notify_all()
            yield from taken
        if error is not None:
            raise error
    finally:
        with changed:
            is_closed = True
            changed.notify_all()
        thread.join()
