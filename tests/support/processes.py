"""A command and all processes that come of it: found, measured, killed by /proc, and surely ended. Linux only."""

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

PR_SET_CHILD_SUBREAPER = 36
END_LIMIT_S = 20


class Tree:
    """A running command and its descendants, orphans among them too. Use it in a `with` statement: whatever is left of
    it is killed at the end.

    Until the end this process adopts the orphans of what it starts, so a killed driver hides none of its children.
    Hence one tree at a time, and no other children that start meanwhile; those that were there before are left alone.
    """

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path) -> None:
        adopt_orphans(True)
        self._others = frozenset(children_of(os.getpid()))
        self.started = time.monotonic()
        with log.open("ab") as out:
            self.driver = subprocess.Popen(command, env=dict(env), cwd=cwd, stdout=out, stderr=out)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.started

    def is_running(self) -> bool:
        return self.driver.poll() is None

    def pids(self) -> dict[int, str]:
        """Pid → command line of every process of the tree that is alive."""
        return {pid: line for pid in self._all() if (line := command_line(pid))}

    def kinds(self) -> set[str]:
        """Which of the kinds that `find` knows are there now."""
        lines = self.pids().values()
        found = {kind for kind, is_kind in IS_KIND.items() if any(map(is_kind, lines))}
        return {*found, "driver"} if self.is_running() else found

    def find(self, kind: str) -> int | None:
        """A process of the tree: the `driver`, the `raylet`, or a `worker` that holds a stage; None without one."""
        if kind == "driver":
            return self.driver.pid if self.is_running() else None
        found = [pid for pid, line in sorted(self.pids().items()) if IS_KIND[kind](line)]
        return found[0] if found else None

    def _all(self) -> Iterator[int]:
        return descendants(os.getpid(), self._others)

    def end(self) -> None:
        """Kill what is left, and wait until it is gone."""
        deadline = time.monotonic() + END_LIMIT_S
        while pids := [*self._all()]:
            for pid in pids:
                kill(pid)
            self.driver.poll()
            for pid in children_of(os.getpid()) - self._others:
                reap(pid)
            if time.monotonic() > deadline:
                raise RuntimeError(f"processes {pids} do not end")
            time.sleep(0.02)
        adopt_orphans(False)


IS_KIND = {
    "raylet": lambda line: Path(line.split(" ")[0]).name == "raylet",
    # Ray names a worker after what it runs; ours runs a step of Ray Data.
    "worker": lambda line: line.startswith("ray::") and "Map" in line,
}


def adopt_orphans(on: bool) -> None:
    """Whether orphans below this process become its children, or those of the first process."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0)


def descendants(root: int, without: Collection[int] = ()) -> Iterator[int]:
    """Pids below `root`, those of zombies too; not `without` and what is below them."""
    children = _children()
    todo = [pid for pid in children.get(root, ()) if pid not in without]
    while todo:
        pid = todo.pop()
        yield pid
        todo += children.get(pid, ())


def children_of(pid: int) -> set[int]:
    return set(_children().get(pid, ()))


def _children() -> dict[int, list[int]]:
    """Pid of a parent → pids of its children."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (parent := _parent(entry)) is not None:
            children.setdefault(parent, []).append(int(entry.name))
    return children


def command_line(pid: int) -> str:
    """Words joined by spaces; empty for a zombie or a process that has gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def resident_mib(pid: int) -> float:
    """Private memory of a process; 0 if it has gone. Shared pages, such as Ray's object store, are left out."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:
        return 0.0
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE") / 2**20


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def reap(pid: int) -> None:
    """Take leave of a child that has ended."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _parent(entry: Path) -> int | None:
    try:
        # The name in parentheses may hold anything, spaces and parentheses too.
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return None
