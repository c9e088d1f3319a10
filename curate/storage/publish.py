"""Files that appear whole or not at all, on local disks and on object stores."""

import errno
import fcntl
import os
import uuid
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractBufferedFile

from curate.media.counter import count_written
from curate.storage.place import locate

ATOMIC_PUT = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci", "r2", "tos", "memory"})
"""Protocols of stores that show an object when it is complete and not before."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def publish(url: str) -> Iterator[IO[bytes]]:
    """Open `url` for atomic writing: readers see all of it or nothing, and what was written survives a power cut.

    Object stores show an upload when it is complete. Everywhere else the bytes get a temporary name and one rename;
    local files and their folders are synchronised. An exception inside the block leaves nothing under `url`.

    Raises:
        OSError: it cannot be written; of a full disk, with the path and what to do.
    """
    try:
        with _published(url) as file:
            yield file
    except OSError as error:
        if error.errno not in FULL or error.filename is not None:
            raise
        raise OSError(error.errno, f"{error.strerror}; free space there: the same command resumes", url) from error


@contextmanager
def _published(url: str) -> Iterator[IO[bytes]]:
    fs, path = locate(url)
    folder, _, name = path.rpartition("/")
    fs.makedirs(folder, exist_ok=True)
    if isinstance(fs, LocalFileSystem):
        with _renamed(Path(folder), name) as local:
            yield local
    elif is_atomic(fs):
        with _put(fs, path) as file:
            yield file
    else:
        temporary = f"{folder}/.{name}.{uuid.uuid4().hex}.tmp"
        try:
            with _put(fs, temporary) as file:
                yield file
            fs.mv(temporary, path)
        except BaseException:
            with suppress(FileNotFoundError):
                fs.rm_file(temporary)
            raise


def is_atomic(fs: AbstractFileSystem) -> bool:
    """Whether the filesystem shows an object when it is complete and not before."""
    protocols = (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol
    return not ATOMIC_PUT.isdisjoint(protocols)


@contextmanager
def _renamed(folder: Path, name: str) -> Iterator[IO[bytes]]:
    temporary = folder / f".{name}.{uuid.uuid4().hex}.tmp"
    try:
        with temporary.open("wb") as file:
            _lock(file)
            yield file
            file.flush()
            os.fsync(file.fileno())
            num_bytes = os.fstat(file.fileno()).st_size
            temporary.replace(folder / name)
        count_written(num_bytes)
        sync_folder(folder)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _put(fs: AbstractFileSystem, path: str) -> Iterator[IO[bytes]]:
    file = fs.open(path, "wb")
    try:
        yield file
    except BaseException:
        file.discard()
        if isinstance(file, AbstractBufferedFile):
            file.closed = True  # or it would be closed, that is published, when it is forgotten
        raise
    num_bytes = file.tell()
    file.close()
    count_written(num_bytes)


def sync_folder(folder: Path) -> None:
    """Make the names in a local folder outlive a power cut, where its filesystem can do that for folders."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return  # it may be written, but not listed
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def remove_unfinished(folder: str, names: Collection[str]) -> None:
    """Remove what writers of these files left in a folder when they were killed; what is being written stays."""
    fs, path = locate(folder)
    if not isinstance(fs, LocalFileSystem) or not os.path.isdir(path):
        return  # an object store shows nothing of a PUT that did not come to its end
    for temporary in map(Path, Path(path).iterdir()):
        if unfinished_name(temporary.name) in names and not is_being_written(temporary):
            temporary.unlink(missing_ok=True)


def remove_files(urls: Iterable[str]) -> None:
    """Remove files; one that is not there is no error."""
    for url in urls:
        fs, path = locate(url)
        with suppress(FileNotFoundError):
            fs.rm_file(path)


def remove_folder(url: str) -> None:
    """Remove a folder with all that is in it, if it is there."""
    fs, path = locate(url)
    fs.invalidate_cache()
    with suppress(FileNotFoundError):
        fs.rm(path, recursive=True)


def unfinished_name(name: str) -> str | None:
    """The name that a temporary file was to get; None for another file."""
    if not name.startswith(".") or not name.endswith(".tmp"):
        return None
    return name[1:].rsplit(".", 2)[0]


def is_being_written(path: Path) -> bool:
    """Whether a process holds a temporary file open for writing; True where the filesystem has no locks."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:  # another holds it, or the filesystem has no locks
        return True
    return False


def _lock(file: IO[bytes]) -> None:
    """Tell `is_being_written`; released by the system when the process ends, however it ends."""
    with suppress(OSError):  # a filesystem without locks
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def write_text(url: str, text: str) -> None:
    """Publish a small text file."""
    with publish(url) as file:
        file.write(text.encode())
