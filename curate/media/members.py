"""Members of tars and rows of tables: where their bytes are, and reading no others.

The version of a member is that of its file, then where it is in it: `VERSION@OFFSET+SIZE` in a tar, `VERSION@ROW` in a
table. So a member whose version is known is read without a look at the others.
"""

import io
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import IO

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from curate.media.origin import COPY_BYTES, Origin, remote_errors, version_of
from curate.media.table_rows import TableRow
from curate.media.tar_members import tar_members
from curate.schema import FailureKind, MediaError
from curate.storage.access import public
from curate.storage.inside import member_uri
from curate.storage.place import locate

LISTING_BYTES = 2**20
"""Of a remote tar, read at once while its headers are looked for: small members are read on the way, large ones are
passed over."""
_PLACE = re.compile(r"(.*)@(\d+)\+(\d+)", re.DOTALL)


def member_of(container: str, name: str, version: str | None, table: str | None = None) -> Origin:
    """The bytes of a member.

    Args:
        container: The file that it is in, with its signature where it has one.
        name: Of the member.
        version: That it had when it was listed; None: it is looked for.
        table: A local path of the file, where it `is_mapped`.
    """
    if container.partition("?")[0].lower().endswith(".tar"):
        return TarFileMember(container, name, version)
    return TableRow(container, name, table)


def is_mapped(container: str) -> bool:
    """Whether a file is read from a local disk alone."""
    return container.partition("?")[0].lower().endswith(".arrow")


class TarFileMember:
    """A member of a tar, read by its offset."""

    def __init__(self, container: str, name: str, version: str | None) -> None:
        self.name, self._container = name, container
        self._fs, self._path, self._public = _located(container)
        found = version and _PLACE.fullmatch(version)
        self._version = ""
        self._place: tuple[int, int] | None = None
        if found:
            self._version, self._place = found[1], (int(found[2]), int(found[3]))

    @property
    def uri(self) -> str:
        return member_uri(self._public, self.name)

    def look(self) -> tuple[int | None, str]:
        version = version_of(self._container, self._fs, self._path)
        if self._place is None:
            places = _places(self._container, version)
            if self.name not in places:
                raise MediaError(FailureKind.MISSING, f"{self.uri}: the tar has no such member")
            self._place = places[self.name]
        self._version = version
        return self._place[1], member_version(version, *self._place)

    def chunks(self) -> Iterator[bytes]:
        if self._place is None:
            self.look()
        assert self._place is not None
        at, end = self._place[0], sum(self._place)
        while at < end:
            wanted = min(COPY_BYTES, end - at)
            with remote_errors(self._public):
                data = self._range(at, at + wanted)
            if len(data) != wanted:
                raise MediaError(
                    FailureKind.IO,
                    f"{self.uri}: asked for {wanted} bytes from {at} of its tar, got {len(data)}; where the server "
                    "answers no ranges, download the tar",
                )
            yield data
            at += wanted

    def _range(self, start: int, end: int) -> bytes:
        if isinstance(self._fs, LocalFileSystem):
            return os.pread(_opened(self._path, self._version).fileno(), end - start, start)
        data: bytes = self._fs.cat_file(self._path, start=start, end=end)
        return data


def member_version(version: str, offset: int, size: int) -> str:
    """The version of a member of a tar with this version."""
    return f"{version}@{offset}+{size}"


def is_version_of(version: str, container: str) -> bool:
    """Whether a member had this version when its file had that of `container`."""
    return version.rpartition("@")[0] == container


def open_tar(fs: AbstractFileSystem, path: str) -> IO[bytes]:
    """A tar whose headers are to be read."""
    if isinstance(fs, LocalFileSystem):
        return open(path, "rb")
    remote: IO[bytes] = fs.open(path, "rb", block_size=LISTING_BYTES)
    return remote


@lru_cache(maxsize=8)
def _opened(path: str, version: str) -> io.FileIO:
    """A local tar with this version, kept open for the members after this one."""
    return open(path, "rb", buffering=0)


@lru_cache(maxsize=64)
def _located(container: str) -> tuple[AbstractFileSystem, str, str]:
    """The filesystem, the path there, and the URL without its signature."""
    return *locate(container), public(container)


@lru_cache(maxsize=8)
def _places(container: str, version: str) -> dict[str, tuple[int, int]]:
    """Name → offset and size, of the first member of each name. A tar is looked through once per process."""
    fs, path, name = _located(container)
    places: dict[str, tuple[int, int]] = {}
    with remote_errors(name), open_tar(fs, path) as file:
        try:
            for member in tar_members(file, fs.size(path), name):
                places.setdefault(member.name, (member.offset, member.size))
        except MediaError:
            if not places:
                raise
    return places
