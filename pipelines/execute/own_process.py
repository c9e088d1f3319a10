"""A call in a process of its own: the peak of memory that it measures is its own, and it ends with this process."""

import multiprocessing
import os
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from curate.terminal import leave_terminal
from pipelines.console.progress import console

Result = TypeVar("Result")


def in_own_process(function: Callable[..., Result], *args: Any) -> Result:
    """`function(*args)`, which writes to the terminal of this process. Ctrl-C, and every other end of this process,
    ends the other one at once.

    Args:
        function: of a module, which the other process imports.
        args: what can be pickled, as the result must be.

    Raises:
        ValueError: what `function` raises.
        RuntimeError: the process died.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(theirs, function, args))
    process.start()
    theirs.close()
    try:
        result, error = ours.recv()
    except EOFError as end:
        process.join()
        raise RuntimeError(
            f"the process that did the work ended with {process.exitcode} (-9: it was killed, as where memory ran out)"
        ) from end
    finally:
        process.kill()
        process.join()
        ours.close()
        console.show_cursor()  # a line of progress that was killed hides it
    if error is not None:
        raise error
    return result


def _call(results: Connection, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    leave_terminal()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        results.send((function(*args), None))
    except ValueError as error:
        results.send((None, error))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "a process that was spawned has one"
    parent.join()
    os._exit(1)
