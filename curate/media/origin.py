"""Where bytes are that are copied to local disk: a file behind a URL, or a member of a file."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from typing import Any, Protocol

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from curate.media.version import local_version, remote_version
from curate.schema import FailureKind, MediaError
from curate.storage.access import public, without_secrets
from curate.storage.place import is_url

COPY_BYTES = 4 * 2**20
REFUSALS = (401, 403)
"""Of HTTP: the one who asks may not have it."""
GONE = (404, 410)
"""Of HTTP: there is nothing."""


class Origin(Protocol):
    """Bytes that can be looked at and read.

    Attributes:
        uri: For messages, without signature.
        name: Whose ending is that of the copy.
    """

    @property
    def uri(self) -> str: ...

    @property
    def name(self) -> str: ...

    def look(self) -> tuple[int | None, str]:
        """The number of bytes, None where it is not known before they are read, and their version.

        Raises:
            MediaError: MISSING, PERMISSION or IO.
        """

    def chunks(self) -> Iterator[bytes]:
        """The bytes.

        Raises:
            MediaError: MISSING, PERMISSION or IO.
        """


class RemoteFile:
    """A file behind a URL."""

    def __init__(self, uri: str, fs: AbstractFileSystem, path: str) -> None:
        self.uri, self._fs, self._path = public(uri), fs, path
        self.name = path.partition("?")[0]

    def look(self) -> tuple[int | None, str]:
        with remote_errors(self.uri):
            info = _info(self._fs, self._path)
        return info.get("size"), remote_version(info)

    def chunks(self) -> Iterator[bytes]:
        with remote_errors(self.uri):
            remote = self._fs.open(self._path, "rb")
        with closing(remote):
            while True:
                with remote_errors(self.uri):
                    data = remote.read(COPY_BYTES)
                if not data:
                    return
                yield data


def version_of(uri: str, fs: AbstractFileSystem, path: str) -> str:
    """The version of a file, local or remote, as it is at this moment.

    Raises:
        MediaError: MISSING, PERMISSION or IO.
    """
    with remote_errors(public(uri)):
        return local_version(path) if isinstance(fs, LocalFileSystem) else remote_version(_info(fs, path))


def _info(fs: AbstractFileSystem, path: str) -> dict[str, Any]:
    fs.invalidate_cache(path)
    return dict(fs.info(path))


def reaching(url: str) -> AbstractContextManager[None]:
    """What filesystems of URLs raise, as a `MediaError`; errors of local files stay as they are."""
    return remote_errors(public(url)) if is_url(url) else nullcontext()


def not_found(error: OSError) -> tuple[FailureKind, str] | None:
    """What fsspec reports as a missing file although it is none: refusals of a web server, and one out of reach."""
    cause = error.__cause__ if isinstance(error, FileNotFoundError) else None
    status = getattr(cause, "status", None)
    if status is not None and status not in GONE:
        kind = FailureKind.PERMISSION if status in REFUSALS else FailureKind.IO
        return kind, f"the server answers {status}{'; has its signature expired?' if status in REFUSALS else ''}"
    if isinstance(cause, TimeoutError | OSError) and not isinstance(cause, FileNotFoundError):
        return FailureKind.IO, f"cannot be reached ({without_secrets(str(cause)) or type(cause).__name__})"
    return None


@contextmanager
def remote_errors(uri: str) -> Iterator[None]:
    """What filesystems raise, as a `MediaError`."""
    try:
        yield
    except MediaError:
        raise
    except FileNotFoundError as error:
        kind, detail = not_found(error) or (FailureKind.MISSING, "no such object")
        raise MediaError(kind, f"{uri}: {detail}") from error
    except PermissionError as error:
        raise MediaError(FailureKind.PERMISSION, f"{uri}: {without_secrets(str(error))}") from error
    except Exception as error:  # of the filesystem's own library: they have no base class in common
        detail = f"{uri}: {type(error).__name__}: {without_secrets(str(error))}"
        raise MediaError(FailureKind.IO, detail) from error
