"""The folder on local disk for copies of remote inputs: its owner, and its size limit.

The folder is reelpack's own: it is made by it, has a marker, and belongs to the user alone. Nothing in it is removed
but files that are named as copies are.
"""

import fcntl
import os
import re
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

MARKER = ".reelpack-staging"
TOTAL = ".total"
COPY_NAME = re.compile(r"[0-9a-f]{32}(\.[^/]{0,15})?(\.part)?")
"""Of what may be removed."""

ROOM = 0.1
"""Of the bytes that a cache may have, what is freed at once: there may be many files to count."""


class StagingConfig(BaseModel):
    """Local copies of remote inputs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cache_dir: str | None = Field(
        None, description="folder on local disk, for a sub-folder of copies; null: the folder for temporary files"
    )
    cache_bytes: int = Field(
        50 * 2**30, ge=0, description="most bytes of all copies on one machine; those in use stay in any case"
    )

    @property
    def folder(self) -> Path:
        return Path(self.cache_dir or tempfile.gettempdir()).expanduser() / f"reelpack-staging-{os.geteuid()}"


DEFAULT = StagingConfig()


def own_folder(folder: Path) -> Path:
    """Makes the folder if it is not there, and ensures that no other user can write into it.

    Raises:
        PermissionError: it belongs to another user, or others may write into it, or it is a link.
        FileExistsError: it has no marker, but files: somebody else's.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = os.lstat(folder)
    advice = "name another place in execute.staging.cache_dir"
    if not stat.S_ISDIR(found.st_mode):
        raise PermissionError(f"{folder} is no folder of its own, but a link or a file; {advice}")
    if found.st_uid != os.geteuid():
        raise PermissionError(f"{folder} belongs to user {found.st_uid}, not to {os.geteuid()}; {advice}")
    if found.st_mode & 0o022:
        raise PermissionError(f"others may write into {folder} (mode {found.st_mode & 0o777:o}); {advice}")
    if not (folder / MARKER).exists():
        # Another process may make the marker at this moment, and copies after it.
        if any(entry.name != MARKER and not (folder / MARKER).exists() for entry in os.scandir(folder)):
            raise FileExistsError(f"{folder} has files and no {MARKER}: reelpack did not make it; {advice}")
        (folder / MARKER).touch(mode=0o600)
    return folder


class Room:
    """The folder of the copies, and its size limit."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes

    def make(self, num_bytes: int) -> None:
        """Reserve `num_bytes`. Over the limit, remove unused copies, the least recently used first."""
        with open(os.open(self.folder / TOTAL, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+") as total:
            fcntl.flock(total, fcntl.LOCK_EX)
            text = total.read()
            num_taken = num_bytes + (int(text) if text else self.max_bytes)
            if num_taken > self.max_bytes:
                num_taken = num_bytes + self._free(num_bytes)
            total.seek(0)
            total.write(f"{num_taken:020d}")

    def _free(self, num_bytes: int) -> int:
        """Remove copies until there is room for so many bytes and some more; returns the bytes that remain."""
        found = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # given its final name meanwhile
                    if COPY_NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                        status = entry.stat(follow_symlinks=False)
                        found.append((status.st_mtime_ns, entry.path, status.st_size))
        remaining = sum(size for _, _, size in found)
        if remaining + num_bytes <= self.max_bytes:
            return remaining
        for _, path, size in sorted(found):
            if remaining + num_bytes <= self.max_bytes * (1 - ROOM):
                break
            descriptor = lock(Path(path), os.O_RDONLY, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if descriptor is not None:
                os.unlink(path)
                os.close(descriptor)
                remaining -= size
        return remaining


def lock(path: Path, flags: int, how: int) -> int | None:
    """A descriptor that holds this lock on the file at `path`; None where there is none, or another process has it."""
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError:
        return None
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, how)
        if is_at(descriptor, path):
            return descriptor
    os.close(descriptor)
    return None


def is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file still has this name: it may have been removed meanwhile, or have got its final one."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
