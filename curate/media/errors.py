"""The one place where what PyAV, Pillow and the operating system raise becomes a `MediaError` with its kind."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from curate.schema import FailureKind, MediaError

STORAGE_ERRNOS = frozenset(
    {errno.EIO, errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.EBUSY, errno.ENODEV}
)
"""Errors of the disk or the process. Every other errno that libav gives while it parses (EINVAL, EPIPE, EOVERFLOW …)
is its opinion of the data."""


@contextmanager
def media_errors(path: str, *, doing: str, invalid: FailureKind) -> Iterator[None]:
    """Turns a reader's exception into a `MediaError`.

    Args:
        path: Named in the detail.
        doing: The operation, for the detail: "open", "decode".
        invalid: The kind of data that the reader refuses: `NOT_MEDIA` on opening, `CORRUPT` later.

    Raises:
        MediaError: For every error of the file or its storage; other exceptions are bugs and pass through.
    """
    import av.error

    try:
        yield
    except FileNotFoundError as error:
        raise MediaError(FailureKind.MISSING, f"cannot {doing} {path}: no such file") from error
    except (IsADirectoryError, NotADirectoryError) as error:
        raise MediaError(FailureKind.NOT_MEDIA, f"cannot {doing} {path}: not a regular file") from error
    except (av.error.DecoderNotFoundError, av.error.PatchWelcomeError) as error:
        raise MediaError(FailureKind.UNKNOWN_CODEC, f"cannot {doing} {path}: {error}") from error
    except av.error.EOFError as error:
        raise MediaError(FailureKind.NO_FRAMES, f"cannot {doing} {path}: it ends before its first frame") from error
    except av.error.ExitError as error:
        raise MediaError(FailureKind.TIMEOUT, f"cannot {doing} {path}: its data did not come in time") from error
    except (OSError, av.error.FFmpegError) as error:
        kind = invalid
        # Not by class: libav also returns "operation not permitted" (EPERM) for invalid data.
        if error.errno == errno.EACCES:
            kind = FailureKind.PERMISSION
        elif error.errno in STORAGE_ERRNOS:
            kind = FailureKind.IO
        raise MediaError(kind, f"cannot {doing} {path}: {error.strerror or error}") from error
