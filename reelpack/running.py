"""How a call of the API ends: errors as the command line says them, an interruption with what stays."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from pipelines.console.interrupted import stays
from pipelines.console.messages import file_for_folder, message_of


@contextmanager
def running(command: str, what: Callable[[str], str] | None = None, place: str = "") -> Iterator[None]:
    """Run a block as a command.

    Args:
        command: its name, for the extra that brings a missing package.
        what: says what of `place` stays where the block is interrupted; None: it writes nothing.
        place: dataset or run.

    Raises:
        ImportError: a package is missing; the message names the extra that brings it.
        ValueError: a path leads through a file.
    """
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # the steps have their own progress lines
    try:
        with nullcontext() if what is None else stays(what, place):
            yield
    except ImportError as error:
        raise ImportError(message_of(error, command), name=error.name, path=error.path) from error
    except OSError as error:
        if (told := file_for_folder(error)) is not None:
            raise ValueError(told) from error
        raise
