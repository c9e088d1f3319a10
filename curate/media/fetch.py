"""Remote inputs, staged: decoders seek, so a file behind a URL is copied to local disk first."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from curate.schema import Failure, FailureKind, MediaError


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


class Staged:
    """A stage over items with a `path`, given local copies of them: a remote file is fetched where it is worked on."""

    def __init__(self, stage: Any, step: str) -> None:
        self.stage = stage
        self.step = step

    def setup(self) -> None:
        self.stage.setup()

    def process(self, items: Sequence[Any]) -> list[Any]:
        outcomes: list[Any] = [self._fetched(item) for item in items]
        ready = [item for item in outcomes if not isinstance(item, Failure)]
        results = iter(self.stage.process(ready))
        return [item if isinstance(item, Failure) else next(results) for item in outcomes]

    def _fetched(self, item: Any) -> Any:
        try:
            return replace(item, path=local_copy(item.path))
        except MediaError as error:
            return error.failure(item.path, self.step)
