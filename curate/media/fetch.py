"""Remote inputs, staged: decoders seek, so a file behind a URL is copied to local disk first."""

import tempfile
from pathlib import Path

import fsspec
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from curate.schema import FailureKind, MediaError


def local_copy(uri: str) -> str:
    """A local path with the bytes of `uri`: the path itself, or a cached download.

    Raises:
        MediaError: the remote file is not there (MISSING) or cannot be fetched (IO, retryable).
    """
    fs, path = url_to_fs(uri)
    if isinstance(fs, LocalFileSystem):
        return path
    cache = Path(tempfile.gettempdir()) / "reelpack-staged"
    try:
        return fsspec.open_local(f"filecache::{uri}", filecache={"cache_storage": str(cache), "same_names": False})
    except FileNotFoundError as error:
        raise MediaError(FailureKind.MISSING, f"{uri}: no such object") from error
    except OSError as error:
        raise MediaError(FailureKind.IO, f"{uri}: {error}") from error
