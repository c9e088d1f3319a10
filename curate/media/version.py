"""The version of a file's bytes, without reading them: it changes when they do.

Files change while they are processed: uploads continue, editors save. The bytes that are hashed must be those that are
scanned, scored and cut, so the version is checked before and after each of these reads.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from curate.schema import FailureKind, MediaError

VERSION_KEYS = (
    "generation", "ETag", "etag", "mtime", "created", "LastModified", "Last-Modified", "last_modified", "updated",
)  # fmt: skip
"""What the filesystems of fsspec call it."""


def local_version(path: str) -> str:
    """Size and time of the last change, of the file that a link leads to.

    Raises:
        OSError: it is not there.
    """
    status = os.stat(path)
    return f"{status.st_size}-{status.st_mtime_ns}"


def remote_version(info: Mapping[str, Any]) -> str:
    """Size, and the store's own tag or time; `info` is what fsspec tells of a file."""
    tag = next((str(info[key]) for key in VERSION_KEYS if info.get(key) is not None), "")
    return f"{int(info.get('size') or 0)}-{tag}"


def check_version(name: str, found: str, expected: str | None) -> None:
    """Raises MediaError (CHANGED) unless they are equal, or none is expected."""
    if expected is not None and found != expected:
        detail = f"{name} changed since it was listed (version {expected}, now {found}); run again when it is whole"
        raise MediaError(FailureKind.CHANGED, detail)


@contextmanager
def unchanged(path: str, version: str | None) -> Iterator[None]:
    """A local file is the same before and after the block, and has this version. A file that is not there at first is
    for the block to notice.

    Raises:
        MediaError: CHANGED, in place of the block's own error.
    """
    try:
        before = _seen(path)
    except OSError:
        yield
        return
    check_version(path, local_version(path), version)
    try:
        yield
    except MediaError:
        _check_seen(path, before)
        raise
    _check_seen(path, before)


def _check_seen(path: str, before: str) -> None:
    try:
        after = _seen(path)
    except OSError:
        after = "gone"
    check_version(path, after, before)


def _seen(path: str) -> str:
    """The version, and which file it is: another may have been moved to this place."""
    status = os.stat(path)
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ino}"
