"""Remote inputs and members of tars and tables, staged: decoders seek, so what is behind a URL, or inside a file, is
copied to local disk first.

The copies of all processes on a machine share one folder of bounded size: the least recently used copy is removed
first, and never one in use. A copy is named by its URL, without signature, and the version of the bytes
there. Nothing but locks that the system itself releases (flock) says who uses what, so a killed process leaves nothing
that needs repair:

- `NAME.part` is being written by the process that holds its exclusive lock, and is rubbish where none does. It has its
  final length from the beginning, which reserves its room.
- `NAME` is whole, and in use by every process that holds a shared lock on it.
- `.total` is locked while room is made. It says how many bytes there are, or more: the files are counted
  only when that is too much.
"""

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from curate.media.counter import count_bytes
from curate.media.members import is_mapped, member_of
from curate.media.origin import Origin, RemoteFile
from curate.media.staging import DEFAULT, Room, StagingConfig, is_at, lock, own_folder
from curate.media.version import check_version, unchanged
from curate.schema import Failure, FailureKind, MediaError, content_digest
from curate.storage.access import public
from curate.storage.inside import file_uri, split_member
from curate.storage.place import locate

POLL_S = 0.05


@contextmanager
def local_copy(uri: str, config: StagingConfig = DEFAULT, *, version: str | None = None) -> Iterator[str]:
    """A local path with the bytes of `uri`, inside the `with` block: the path itself, or a copy. Of a stretch of a
    video, the whole of it.

    Args:
        uri: A local path or a URL, with its signature where it has one: what is said and kept is without. Or a member
            of such a file (`curate.storage.inside`).
        config: The folder of the copies.
        version: That the bytes must have (`curate.media.version`); None accepts any.

    Raises:
        MediaError: the file or member is not there (MISSING), may not be read (PERMISSION), or cannot be (IO). It has
            another version, or has got one inside the block or while it was fetched (CHANGED).
        OSError: the copy cannot be written. That is not the file's fault.
    """
    uri = file_uri(uri)
    member = split_member(uri)
    fs, path = locate(uri if member is None else member[0])
    if member is None and isinstance(fs, LocalFileSystem):
        with unchanged(path, version):
            yield path
        return
    with ExitStack() as held:
        if member is None:
            origin: Origin = RemoteFile(uri, fs, path)
        else:
            table = held.enter_context(local_copy(member[0], config)) if is_mapped(member[0]) else None
            origin = member_of(*member, version, table)
        copy = _Copy(origin, config, version)
        held.callback(copy.room.make, 0)
        held.callback(os.close, copy.hold())
        yield str(copy.file)


class _Copy:
    """Bytes that are elsewhere, and the place of their copy."""

    def __init__(self, origin: Origin, config: StagingConfig, version: str | None) -> None:
        self.origin, self.uri = origin, origin.uri
        self.num_bytes, self.version = origin.look()
        check_version(self.uri, self.version, version)
        folder = own_folder(config.folder)
        self.room = Room(folder, config.cache_bytes)
        # Decoders take the ending for a hint.
        ending = PurePosixPath(origin.name).suffix[:16]
        self.file = folder / f"{content_digest(self.uri, self.version)}{ending}"
        self.part = folder / f"{self.file.name}.part"

    def hold(self) -> int:
        """A descriptor whose lock keeps the copy in its place; fetches what is not there."""
        while True:
            if (descriptor := lock(self.file, os.O_RDONLY, fcntl.LOCK_SH)) is not None:
                os.utime(descriptor)
                return descriptor
            if (descriptor := lock(self.part, os.O_RDWR | os.O_CREAT, fcntl.LOCK_EX | fcntl.LOCK_NB)) is None:
                time.sleep(POLL_S)  # another process fetches it
                continue
            try:
                self._fetch(descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_SH)
                if is_at(descriptor, self.file):
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
            check_version(self.uri, self.origin.look()[1], self.version)
            self.part.rename(self.file)
        except BaseException:
            self.part.unlink(missing_ok=True)
            raise

    def _download(self, descriptor: int) -> int:
        with open(descriptor, "r+b", closefd=False) as local:
            for data in self.origin.chunks():
                local.write(data)
                count_bytes(len(data))
            return local.tell()


class Staged:
    """A stage over items with a `path` and a `version`, given local copies of them: a remote file is fetched where it
    is worked on. What comes of a file that changed meanwhile is a failure."""

    def __init__(self, stage: Any, config: StagingConfig = DEFAULT) -> None:
        self.stage = stage
        self.step = stage.step
        self.config = config

    def setup(self) -> None:
        self.stage.setup()

    def process(self, items: Sequence[Any]) -> list[Any]:
        held: list[tuple[ExitStack, Any]] = [self._fetched(item) for item in items]
        with ExitStack() as rest:
            for copy, _ in held:
                rest.push(copy)
            ready = [item for _, item in held if not isinstance(item, Failure)]
            results = iter(self.stage.process(ready))
            outcomes = [item if isinstance(item, Failure) else next(results) for _, item in held]
            return [
                self._released(copy, item, _named(outcome, local, item))
                for (copy, local), item, outcome in zip(held, items, outcomes, strict=True)
            ]

    def give_up(self, item: Any, kind: FailureKind, detail: str, attempts: int) -> Any:
        return self.stage.give_up(item, kind, detail, attempts)

    def _fetched(self, item: Any) -> tuple[ExitStack, Any]:
        """What holds the copy, and the item with its path; or the failure to get one."""
        copy = ExitStack()
        try:
            path = copy.enter_context(local_copy(item.path, self.config, version=item.version))
        except MediaError as error:
            return copy, self.give_up(item, error.kind, error.detail, 1)
        return copy, replace(item, path=path)

    def _released(self, copy: ExitStack, item: Any, outcome: Any) -> Any:
        try:
            copy.close()
        except MediaError as error:
            return self.give_up(item, error.kind, error.detail, 1)
        return outcome


def _named(outcome: Any, local: Any, item: Any) -> Any:
    """A failure names the file as the user does, and not its copy."""
    if not isinstance(outcome, Failure) or isinstance(local, Failure):
        return outcome
    return replace(outcome, detail=outcome.detail.replace(local.path, public(item.path)))
