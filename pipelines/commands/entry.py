"""How a command line runs and ends: every foreseen error is one message and an exit code.

A mistake is exit code 2; a run that kept nothing, or found a problem, is 1; Ctrl-C is 130.
"""

import os
import sys
from collections.abc import Callable

import typer
from rich.markup import escape

from pipelines.console.interrupted import is_first_rank, told_by
from pipelines.console.messages import message_of
from pipelines.console.progress import console

EXIT_INTERRUPTED = 130
"""128 plus the number of SIGINT, as in shells."""


def run(app: typer.Typer, argv: list[str] | None = None, module: str | None = None) -> None:
    """Run a command line and exit.

    Args:
        app: the commands.
        argv: what follows the program's name; None: the arguments of this process.
        module: the name that `python -m` started, for usage lines; None: `reelpack` was.
    """
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # the steps have their own progress lines
    given = sys.argv[1:] if argv is None else argv
    command = module or "".join(given[:1])
    try:
        app(args=argv, prog_name=f"python -m {module}" if module else "reelpack")
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("REELPACK_DEBUG"):
            raise
        _say_error(message_of(error, command))
        sys.exit(2)
    except RuntimeError as error:  # out of memory, a lost Ray worker: a run-level error, shown without a traceback
        if os.environ.get("REELPACK_DEBUG"):
            raise
        _say_error(message_of(error, command))
        console.print("REELPACK_DEBUG=1 shows where; the same command resumes from what was published")
        sys.exit(1)
    except (KeyboardInterrupt, SystemExit) as ended:  # typer turns an interruption into an exit without a message
        told = told_by(ended)
        if told is None:
            if is_first_rank() and (message := getattr(ended, "message", "")):  # a training that SIGTERM stopped
                console.print(message, highlight=False, markup=False, soft_wrap=True)
            raise
        if is_first_rank():
            console.print(f"interrupted{told and ': '}{told}", highlight=False, markup=False, soft_wrap=True)
        sys.exit(EXIT_INTERRUPTED)


def main_of(command: Callable[..., None], module: str) -> None:
    """The command line of one command, started as `python -m MODULE`."""
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    alone.command()(command)
    run(alone, module=module)


def _say_error(text: str) -> None:
    rank = "" if is_first_rank() else f"rank {os.environ['RANK']}: "
    console.print(f"{rank}[bold red]error:[/] {escape(text)}", highlight=False, soft_wrap=True)
