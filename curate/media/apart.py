"""A call in a process of its own: what it does to that process, it does not do to this one."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from curate.schema import FailureKind, MediaError
from curate.terminal import leave_terminal

T = TypeVar("T")


def run_apart(function: Callable[..., T], *args: Any, limit_s: float) -> T:
    """`function(*args)`, for files on which native code crashes or hangs. Costs the start of a Python process.

    Args:
        function: a function of a module, which the other process can import.
        args: what can be pickled.
        limit_s: seconds after which the process is killed.

    Raises:
        MediaError: the process died (WORKER_DIED) or took too long (TIMEOUT); and those of `function`.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(theirs, function, args), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(limit_s):
            raise MediaError(FailureKind.TIMEOUT, f"nothing came of it in {limit_s:g} s")
        result, error = ours.recv()
    except EOFError as end:
        process.join()
        detail = f"the process that worked on it ended with {process.exitcode}"
        raise MediaError(FailureKind.WORKER_DIED, detail) from end
    finally:
        process.kill()
        process.join()
        ours.close()
    if error is not None:
        raise error
    return result


def _call(results: Connection, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    leave_terminal()
    try:
        results.send((function(*args), None))
    except MediaError as error:
        results.send((None, error))
