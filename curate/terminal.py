"""Work in the background has no terminal: the system stops a process of a background group that reads from one or
changes its settings, until somebody calls it to the foreground."""

import fcntl
import os
import termios


def leave_terminal() -> None:
    """Give up this process's terminal, which its children then have not either: standard input is empty, and there is
    no /dev/tty. Also no Ctrl-C arrives from there."""
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
