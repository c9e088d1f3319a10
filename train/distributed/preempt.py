"""Being told to stop: schedulers send SIGTERM before they take a machine away."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Preempted(SystemExit):
    """The run was told to stop, and is saved; the exit code is that of a process ended by SIGTERM."""

    def __init__(self, message: str) -> None:
        super().__init__(128 + signal.SIGTERM)
        self.message = message


@contextmanager
def until_told_to_stop() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, as schedulers send it before they take a machine away; set nowhere but in the main
    thread."""
    told = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield told
        return
    before = signal.signal(signal.SIGTERM, lambda *_: told.set())
    try:
        yield told
    finally:
        signal.signal(signal.SIGTERM, before)
