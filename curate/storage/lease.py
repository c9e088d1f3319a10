"""One writer at a time: a lease on a folder, local or remote, that its owner renews and that ends with it.

A lease is a small file with a name of its own in FOLDER/.leases. A process that wants one writes its file first
and looks for others second. Of two that do so at once, each sees the other and steps back, so no two proceed. It only
needs that a listing shows what was written before, as on local disks, NFS, S3, GCS and Azure.

The owner renews its file every `BEAT_S`. Its lease has ended where its process on this machine is gone, or where the
file was not renewed for `STALE_S`. An owner that could not renew it for `LOST_S`, such as a suspended machine, detects
that itself, and `check` raises. Readers need no lease.

Owners that share a lease have it at the same time, and exclude one that does not share it.
"""

import json
import os
import random
import re
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

from fsspec.implementations.local import LocalFileSystem

from curate.storage.owner import Owner, here, is_dead_here
from curate.storage.place import locate

FOLDER = ".leases"
BEAT_S = 10.0
STALE_S = 90.0
LOST_S = 60.0
RECENT_S = 2.0
RETRY_S = (0.02, 0.1, 0.5)
"""Longest waits, in seconds, after a recent owner was found: that owner can have stepped back, too."""
POLL_S = 0.05


class Occupied(ValueError):
    """Another process has the lease."""


class LeaseLost(RuntimeError):
    """The lease could not be renewed in time, and another process may have it."""


class Lease:
    """A lease that this process has; made by `hold`."""

    def __init__(self, folder: str, name: str, *, is_shared: bool = False) -> None:
        self.folder = folder.rstrip("/")
        self.name = name
        self.is_shared = is_shared
        self._claims: tuple[str, ...] = ()
        self._file = f"{name}-{uuid.uuid4().hex}.json"
        self._over = threading.Event()
        self._renewed = time.time()
        self._is_gone = False
        self._thread = threading.Thread(target=self._renew_all, name=f"lease-{name}", daemon=True)

    def check(self) -> None:
        """Called before what must not be written twice.

        Raises:
            LeaseLost: another process may have the lease by now.
        """
        # By the wall clock: the other one stands still while a machine sleeps.
        if self._is_gone or time.time() - self._renewed > LOST_S:
            raise LeaseLost(
                f"{self.folder}: the lease `{self.name}` was not renewed for {LOST_S:.0f} s or was removed; another "
                "process may write there. This one stops; the same command resumes from what is there"
            )

    def others(self) -> list[Owner]:
        """Who else has the lease, which they share."""
        found = _found(self.folder, self.name)
        return [owner for owner, file in found if file != self._file and not _ended(self.folder, owner, file)]

    def announce(self, claims: Iterable[str]) -> None:
        """Make known what this owner alone works on.

        Raises:
            LeaseLost: another process may have the lease by now.
        """
        self.check()
        self._claims = tuple(claims)
        self._write()

    def _take(self) -> Owner | None:
        """Take the lease; whoever has it, if that is another that does not share it."""
        self._write()
        for owner in self.others():
            if not (self.is_shared and owner.is_shared):
                self._remove()
                return owner
        self._renewed = time.time()
        self._thread.start()
        return None

    def _end(self) -> None:
        self._over.set()
        self._thread.join()
        self._remove()

    def _renew_all(self) -> None:
        while not self._over.wait(BEAT_S):
            try:
                self._renew()
            except Exception:  # of the filesystem's own library: they have no base class in common
                continue  # until the next time, or until the lease is lost

    def _renew(self) -> None:
        now = time.time()
        if now - self._renewed > LOST_S:
            return  # for good: another may have seen this
        fs, path = locate(f"{self.folder}/{FOLDER}/{self._file}")
        try:
            if isinstance(fs, LocalFileSystem):
                os.utime(path)
            else:
                fs.invalidate_cache()
                fs.info(path)
                self._write()
        except FileNotFoundError:
            self._is_gone = True
            return
        self._renewed = now

    def _write(self) -> None:
        fs, path = locate(f"{self.folder}/{FOLDER}/{self._file}")
        owner = replace(here(self.name), is_shared=self.is_shared, claims=self._claims)
        record = json.dumps(asdict(owner)).encode()
        try:
            if isinstance(fs, LocalFileSystem):
                _write_local(Path(path), record)
            else:
                fs.makedirs(path.rpartition("/")[0], exist_ok=True)
                fs.pipe_file(path, record)
        except OSError as error:
            raise type(error)(
                f"{self.folder} cannot be written ({error.strerror or error}); free space there or give permission, "
                "or choose another place"
            ) from error

    def _remove(self) -> None:
        _remove(self.folder, self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()


@contextmanager
def hold(folder: str | Path, name: str, *, wait_s: float = 0, is_shared: bool = False) -> Iterator[Lease]:
    """Have the lease `name` on a folder for the length of the block.

    Args:
        folder: local path or URL; made where it is not there.
        name: letters and digits; leases of other names do not touch this one.
        wait_s: how long to wait for another owner to end.
        is_shared: others that share it can have it at the same time.

    Raises:
        Occupied: another process has it; the message names that.
        OSError: the folder cannot be written.
    """
    end = time.monotonic() + wait_s
    steps = iter(RETRY_S)
    while True:
        lease = Lease(str(folder), name, is_shared=is_shared)
        owner = lease._take()
        if owner is None:
            break
        if time.monotonic() < end:
            time.sleep(POLL_S * random.random())
        elif time.time() - owner.beat < RECENT_S and (step := next(steps, None)) is not None:
            time.sleep(step * random.random())
        else:
            raise Occupied(
                f"{lease.folder} is being written by {owner}; wait until that ends, or end it. Where it was killed on "
                f"another machine, this works {STALE_S:.0f} s after its last sign of life"
            )
    with lease:
        yield lease


def owners(folder: str | Path) -> list[Owner]:
    """Who writes into a folder, judged without waiting; changes nothing."""
    return [
        owner
        for owner, _ in _found(str(folder).rstrip("/"), "")
        if not is_dead_here(owner) and time.time() - owner.beat < STALE_S
    ]


def _found(folder: str, name: str) -> list[tuple[Owner, str]]:
    """Leases on a folder and their files; `name` "" for all."""
    fs, path = locate(f"{folder}/{FOLDER}")
    fs.invalidate_cache(path)
    try:
        files = sorted(entry.rpartition("/")[2] for entry in fs.ls(path, detail=False))
    except FileNotFoundError:
        return []
    files = [file for file in files if re.fullmatch(rf"{re.escape(name) or '[^-]+'}-[0-9a-f]{{32}}\.json", file)]
    return [(owner, file) for file in files if (owner := _read(folder, file)) is not None]


def _read(folder: str, file: str) -> Owner | None:
    """The owner that a file names; None where it is gone. A file that is not written yet, or never was, counts as that
    of somebody elsewhere."""
    fs, path = locate(f"{folder}/{FOLDER}/{file}")
    try:
        text = fs.cat_file(path)
        beat = os.stat(path).st_mtime if isinstance(fs, LocalFileSystem) else None
    except FileNotFoundError:
        return None
    try:
        owner = Owner(**json.loads(text))
    except (ValueError, TypeError):
        unknown: Any = dict.fromkeys(("host", "machine", "process", "user", "command", "since"), "unknown")
        owner = Owner(name=file.partition("-")[0], pid=0, beat=0.0, **unknown)
    return owner if beat is None else replace(owner, beat=beat)


def _ended(folder: str, owner: Owner, file: str) -> bool:
    """Whether a lease has ended though its file is there; removes it then."""
    if not is_dead_here(owner):
        if time.time() - owner.beat < STALE_S:
            return False
        # By this clock, which may not be that of the owner: is it renewed?
        time.sleep(2 * BEAT_S)
        again = _read(folder, file)
        if again is not None and again.beat != owner.beat:
            return False
    _remove(folder, file)
    return True


def _write_local(path: Path, record: bytes) -> None:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # another owner has just ended, and removed the folder
            path.write_bytes(record)
            return


def _remove(folder: str, file: str) -> None:
    fs, path = locate(f"{folder}/{FOLDER}/{file}")
    with suppress(FileNotFoundError):
        fs.rm_file(path)
    if isinstance(fs, LocalFileSystem):
        with suppress(OSError):  # others are in it
            Path(path).parent.rmdir()
