"""Workers run without a terminal: the system stops a background process that reads from a terminal or changes its
settings."""

import fcntl
import os
import termios


def leave_terminal() -> None:
    """Detach this process and its children from the terminal.

    Standard input is empty then, there is no /dev/tty, and Ctrl-C does not reach the process.
    """
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    if os.getpgid(0) != os.getpid():
        os.setsid()
    elif os.getsid(0) != os.getpid():  # the leader of a session would take the terminal from all of it
        _disown_terminal()


def _disown_terminal() -> None:
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return  # there is none
    try:
        fcntl.ioctl(terminal, termios.TIOCNOTTY)
    finally:
        os.close(terminal)
