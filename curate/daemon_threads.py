"""Threads that can wait for long, such as for a server, and do not keep the process alive."""

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

Result = TypeVar("Result")
Tasks = SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]


class DaemonPool:
    """Runs calls in the order in which they are submitted, some at the same time.

    At its exit, Python waits for the threads of a `ThreadPoolExecutor` and for all calls that they still have to make:
    Ctrl-C would take as long as the answers of a slow server. It does not wait for these.

    Args:
        num_threads: calls at the same time.
        name: of the threads.
    """

    def __init__(self, num_threads: int, name: str) -> None:
        self._tasks: Tasks = SimpleQueue()
        for number in range(num_threads):
            threading.Thread(target=_serve, args=(self._tasks,), name=f"{name}-{number}", daemon=True).start()
        weakref.finalize(self, _end, self._tasks, num_threads)

    def submit(self, work: Callable[..., Result], *given: Any) -> "Future[Result]":
        """Its result, or what it raised, is in the future."""
        future: Future[Result] = Future()
        self._tasks.put((future, lambda: work(*given)))
        return future

    def map(self, work: Callable[..., Result], *given: Iterable[Any]) -> Iterator[Result]:
        """The results in the order of what is given."""
        futures = [self.submit(work, *one) for one in zip(*given, strict=True)]
        return (future.result() for future in futures)


def _serve(tasks: Tasks) -> None:
    while (task := tasks.get()) is not None:
        future, call = task
        try:
            future.set_result(call())
        except BaseException as error:  # is raised where the result is wanted
            future.set_exception(error)
        del task, future, call  # nothing is held while this thread waits


def _end(tasks: Tasks, num_threads: int) -> None:
    for _ in range(num_threads):
        tasks.put(None)
