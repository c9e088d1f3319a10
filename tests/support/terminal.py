"""Commands on a terminal of their own, as in a shell: they lead the session, and are its foreground process group."""

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

LIMIT_S = 280
"""A command that is not done by then hangs."""

USE_TERMINAL = """
import contextlib, termios

for name in ("/dev/stdin", "/dev/tty"):
    with contextlib.suppress(OSError, termios.error), open(name) as terminal:
        termios.tcsetattr(terminal, termios.TCSANOW, termios.tcgetattr(terminal))
"""
"""A program that sets the terminals that it has: in the background the system stops it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """What a command wrote to its terminal, and its exit code (minus the signal that ended it)."""

    screen: str
    code: int


def on_terminal(
    command: Sequence[str],
    *,
    columns: int = 80,
    limit_s: float = LIMIT_S,
    environment: Mapping[str, str] | None = None,
    interrupt_at: Callable[[str], bool] | None = None,
) -> Ended:
    """Run `python COMMAND...` on a new terminal to its end.

    Args:
        command: arguments of this Python.
        columns: of the terminal.
        limit_s: seconds; the default leaves room on a busy machine.
        environment: variables beside the present ones.
        interrupt_at: Ctrl-C is typed once, as soon as this is true of what was written so far.

    Raises:
        TimeoutError: the command did not end; it and its session are killed.
    """
    child, terminal = pty.fork()
    if not child:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background job ignores it, and so would the command
        os.environ.update({"TERM": "xterm", **(environment or {})})
        os.execv(sys.executable, [sys.executable, *command])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    written, deadline = bytearray(), time.monotonic() + limit_s
    try:
        while time.monotonic() < deadline:
            if not select.select([terminal], [], [], 1)[0]:
                continue
            try:
                written += os.read(terminal, 65536)
            except OSError:  # the last process that had the terminal is gone
                break
            if interrupt_at is not None and interrupt_at(written.decode(errors="replace")):
                os.write(terminal, b"\x03")
                interrupt_at = None
        else:
            raise TimeoutError(
                f"no end in {limit_s:g} s; the terminal shows {written.decode(errors='replace')[-2000:]}"
            )
    except TimeoutError:
        _kill_session(child)
        raise
    finally:
        _, status = os.waitpid(child, 0)
        os.close(terminal)
    return Ended(screen=written.decode(errors="replace"), code=os.waitstatus_to_exitcode(status))


def _kill_session(leader: int) -> None:
    """End the processes of the session: those that are stopped, too."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.getsid(int(entry)) == leader:
                    os.kill(int(entry), signal.SIGKILL)
            except ProcessLookupError:
                continue
