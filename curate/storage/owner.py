"""Who a process is, as others can tell: on which machine, since when, by which command; and whether it is gone."""

import getpass
import os
import re
import shlex
import socket
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from curate.storage.access import without_secrets


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """Who has a lease.

    Attributes:
        name: What the lease is for, such as `curate`.
        host, pid, user: The process.
        machine: Names the boot of the machine and the namespace in which `pid` counts; "" where neither is known.
        process: When the process started, in the system's own units: a pid is used again.
        command: As it was typed, without passwords and what follows a `?` in URLs.
        since: UTC, ISO 8601.
        beat: Time of the last renewal, seconds since 1970 by the owner's clock, or the filesystem's.
        is_shared: Others that share it can have the lease at the same time.
        claims: Parts of the work that this owner of a shared lease does alone, see `curate.storage.claims`.
    """

    name: str
    host: str
    machine: str
    pid: int
    process: str
    user: str
    command: str
    since: str
    beat: float
    is_shared: bool = False
    claims: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"`{self.command}` (pid {self.pid} of {self.user} on {self.host}, since {self.since})"


def is_dead_here(owner: Owner) -> bool:
    """Whether the owner was a process of this machine, and is none any more."""
    if (owner.host, owner.machine) != (socket.gethostname(), _machine()):
        return False
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # another user's
    return _process(owner.pid) not in ("", owner.process)


def here(name: str) -> Owner:
    """This process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    script = Path(sys.argv[0])
    words = [script.parent.name if script.name == "__main__.py" else script.name, *sys.argv[1:]]
    return Owner(
        name=name,
        host=socket.gethostname(),
        machine=_machine(),
        pid=os.getpid(),
        process=_process(os.getpid()),
        user=user,
        command=shlex.join(without_secrets(re.sub(r"(://[^?]*)\?.*", r"\1", word)) for word in words),
        since=datetime.now(UTC).isoformat(timespec="seconds"),
        beat=time.time(),
    )


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _process(pid: int) -> str:
    """When a process started; "ended" where only its exit code is left, "" where the system does not tell."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()
    except OSError:
        return ""
    return "ended" if state in (b"Z", b"X") else fields[18].decode()
