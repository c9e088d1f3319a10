"""Stop on SIGTERM: schedulers send it before they take a machine away."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Preempted(SystemExit):
    """The run stopped on SIGTERM, and is saved; the exit code is that of a process ended by SIGTERM."""

    def __init__(self, message: str) -> None:
        super().__init__(128 + signal.SIGTERM)
        self.message = message


@contextmanager
def stop_on_sigterm() -> Iterator[threading.Event]:
    """An event that SIGTERM sets. Outside the main thread nothing sets it: Python runs signal handlers there only."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)
