"""Remote inputs, staged: decoders seek, so a file behind a URL is copied to local disk first.

The copies of all processes on a machine lie in one folder, which is kept within bounds: what was not used for longest
goes first, and never what is in use. A copy is named by its URL and the version of what lies there. Nothing but locks
that the system itself releases (flock) says who uses what, so a killed process leaves nothing that needs repair:

- `NAME.part` is being written by the process that holds its exclusive lock, and is rubbish where none does. It has its
  final length from the beginning, so that room is taken before it is filled.
- `NAME` is whole, and in use by every process that holds a shared lock on it.
- `.total` is locked while room is made. It says how many bytes there are, or more: what really lies there is counted
  only when that is too much.
"""

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem
from pydantic import BaseModel, ConfigDict, Field

from curate.place import locate
from curate.schema import Failure, FailureKind, MediaError, content_digest

COPY_BYTES = 4 * 2**20
POLL_S = 0.05
TOTAL = ".total"
ROOM = 0.1
"""Of the bytes that a cache may have, what is freed at once: there may be many files to count."""
VERSION_KEYS = ("ETag", "etag", "mtime", "created", "LastModified", "Last-Modified", "last_modified", "updated")
"""What the filesystems of fsspec call it."""


class StagingConfig(BaseModel):
    """Local copies of remote inputs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cache_dir: str | None = Field(
        None, description="folder on local disk; null: one in the folder for temporary files"
    )
    cache_bytes: int = Field(
        50 * 2**30, ge=0, description="most bytes of all copies on one machine; those in use stay in any case"
    )

    @property
    def folder(self) -> Path:
        return Path(self.cache_dir or f"{tempfile.gettempdir()}/reelpack-staged-{os.getuid()}")


DEFAULT = StagingConfig()


@contextmanager
def local_copy(uri: str, config: StagingConfig = DEFAULT) -> Iterator[str]:
    """A local path with the bytes of `uri`, inside the `with` block: the path itself, or a copy.

    Raises:
        MediaError: the remote file is not there (MISSING), may not be read (PERMISSION), or cannot be (IO).
        OSError: the copy cannot be written. That is not the file's fault.
    """
    fs, path = locate(uri)
    if isinstance(fs, LocalFileSystem):
        yield path
        return
    copy = _Copy(uri, fs, path, config)
    descriptor = copy.hold()
    try:
        yield str(copy.file)
    finally:
        os.close(descriptor)
        copy.room.make(0)


class _Copy:
    """One remote file and the place of its copy."""

    def __init__(self, uri: str, fs: AbstractFileSystem, path: str, config: StagingConfig) -> None:
        self.uri, self.fs, self.path = uri, fs, path
        self.room = _Room(config.folder, config.cache_bytes)
        with _remote_errors(uri):
            fs.invalidate_cache(path)
            info = fs.info(path)
        self.num_bytes: int | None = info.get("size")
        version = next((str(info[key]) for key in VERSION_KEYS if info.get(key) is not None), "")
        # Decoders take the ending for a hint.
        ending = PurePosixPath(path.partition("?")[0]).suffix[:16]
        self.file = config.folder / f"{content_digest(uri, version, str(self.num_bytes))}{ending}"
        self.part = config.folder / f"{self.file.name}.part"

    def hold(self) -> int:
        """A descriptor whose lock keeps the copy in its place; fetches what is not there."""
        self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            if (descriptor := _lock(self.file, os.O_RDONLY, fcntl.LOCK_SH)) is not None:
                os.utime(descriptor)
                return descriptor
            if (descriptor := _lock(self.part, os.O_RDWR | os.O_CREAT, fcntl.LOCK_EX | fcntl.LOCK_NB)) is None:
                time.sleep(POLL_S)  # another process fetches it
                continue
            try:
                self._fetch(descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_SH)
                if _is_at(descriptor, self.file):
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # fetched by another meanwhile, or removed between the two locks

    def _fetch(self, descriptor: int) -> None:
        """Fill `part`, whose lock is held, and give it its name; unless there is one by that name, perhaps in use."""
        if self.file.exists():
            self.part.unlink()
            return
        try:
            self.room.make(self.num_bytes or 0)
            os.ftruncate(descriptor, self.num_bytes or 0)
            num_bytes = self._download(descriptor)
            if self.num_bytes is None:
                self.room.make(num_bytes)
            elif self.num_bytes != num_bytes:
                raise MediaError(FailureKind.IO, f"{self.uri}: got {num_bytes} of its {self.num_bytes} bytes")
            self.part.rename(self.file)
        except BaseException:
            self.part.unlink(missing_ok=True)
            raise

    def _download(self, descriptor: int) -> int:
        with _remote_errors(self.uri):
            remote = self.fs.open(self.path, "rb")
        with closing(remote), open(descriptor, "r+b", closefd=False) as local:
            while True:
                with _remote_errors(self.uri):
                    data = remote.read(COPY_BYTES)
                if not data:
                    return local.tell()
                local.write(data)


class _Room:
    """The folder of the copies, and how much may lie in it."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes

    def make(self, num_bytes: int) -> None:
        """Take so many bytes. Where they are too many, remove copies that nobody uses, those first that were used
        longest ago."""
        with open(os.open(self.folder / TOTAL, os.O_RDWR | os.O_CREAT, 0o600), "r+") as total:
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
                    if entry.name != TOTAL:
                        stat = entry.stat()
                        found.append((stat.st_mtime_ns, entry.path, stat.st_size))
        remaining = sum(size for _, _, size in found)
        if remaining + num_bytes <= self.max_bytes:
            return remaining
        for _, path, size in sorted(found):
            if remaining + num_bytes <= self.max_bytes * (1 - ROOM):
                break
            descriptor = _lock(Path(path), os.O_RDONLY, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if descriptor is not None:
                os.unlink(path)
                os.close(descriptor)
                remaining -= size
        return remaining


def _lock(path: Path, flags: int, how: int) -> int | None:
    """A descriptor that holds this lock on what lies at `path`; None where nothing does, or another has it."""
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileNotFoundError:
        return None
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, how)
        if _is_at(descriptor, path):
            return descriptor
    os.close(descriptor)
    return None


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file still has this name: it may have been removed meanwhile, or have got its final one."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


@contextmanager
def _remote_errors(uri: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise MediaError(FailureKind.MISSING, f"{uri}: no such object") from error
    except PermissionError as error:
        raise MediaError(FailureKind.PERMISSION, f"{uri}: {error}") from error
    except Exception as error:  # of the filesystem's own library: they have no base class in common
        raise MediaError(FailureKind.IO, f"{uri}: {type(error).__name__}: {error}") from error


class Staged:
    """A stage over items with a `path`, given local copies of them: a remote file is fetched where it is worked on."""

    def __init__(self, stage: Any, config: StagingConfig = DEFAULT) -> None:
        self.stage = stage
        self.step = stage.step
        self.config = config

    def setup(self) -> None:
        self.stage.setup()

    def process(self, items: Sequence[Any]) -> list[Any]:
        with ExitStack() as held:
            outcomes: list[Any] = [self._fetched(item, held) for item in items]
            ready = [item for item in outcomes if not isinstance(item, Failure)]
            results = iter(self.stage.process(ready))
            return [item if isinstance(item, Failure) else next(results) for item in outcomes]

    def give_up(self, item: Any, kind: FailureKind, detail: str, attempts: int) -> Any:
        return self.stage.give_up(item, kind, detail, attempts)

    def _fetched(self, item: Any, held: ExitStack) -> Any:
        try:
            return replace(item, path=held.enter_context(local_copy(item.path, self.config)))
        except MediaError as error:
            return self.give_up(item, error.kind, error.detail, 1)
