"""Files of a run that grow. On another filesystem, where nothing can be appended, they grow in a folder of this
machine, and whole copies of them replace those of the run."""

import logging
import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

from curate.storage.place import AnyPath
from curate.storage.publish import publish

logger = logging.getLogger(__name__)

EVERY_S = 60.0
"""Between two copies of what grew, where no checkpoint asks for one."""
MOST_OF_TIME = 0.02
"""Share of the time that copies may take."""
RESUMED = ("metrics.jsonl", "wandb.id")
"""Files that a resumed run continues."""
COPIED = (*RESUMED, "tensorboard", "samples")


class Spool:
    """The growing files of a run.

    Args:
        out: the run. One on this machine is the folder itself.
        writes: this is the first rank. What others put into their folders comes nowhere.
    """

    def __init__(self, out: AnyPath, *, writes: bool) -> None:
        self._out, self._writes = out, writes
        self._temporary: TemporaryDirectory[str] | None = None
        self._copied: dict[Path, tuple[int, int]] = {}
        self._last_s, self._took_s = time.monotonic(), 0.0
        if isinstance(out, Path):
            self.folder = out
            return
        self._temporary = TemporaryDirectory(prefix="reelpack-run-", ignore_cleanup_errors=True)
        self.folder = Path(self._temporary.name)
        for name in RESUMED if writes else ():
            if (there := out / name).exists():
                (self.folder / name).write_bytes(there.read_bytes())
                self._copied[self.folder / name] = _version(self.folder / name)  # other ranks leave it as it is

    def sync(self) -> None:
        """Copy what has changed to the run.

        Raises:
            OSError: it cannot be written.
        """
        if self._temporary is None or not self._writes:
            return
        start_s = time.monotonic()
        for path in sorted(path for name in COPIED for path in _files(self.folder / name)):
            if self._copied.get(path) != (version := _version(path)):
                with path.open("rb") as file, publish(str(self._out / path.relative_to(self.folder).as_posix())) as to:
                    shutil.copyfileobj(file, to)
                self._copied[path] = version
        self._last_s = time.monotonic()
        self._took_s = self._last_s - start_s

    def sync_if_due(self) -> None:
        """Copy from time to time. A store that does not answer costs no run: the next checkpoint finds out."""
        if time.monotonic() - self._last_s < max(EVERY_S, self._took_s / MOST_OF_TIME):
            return
        try:
            self.sync()
        except Exception as error:  # of the filesystem's own library: they have no base class in common
            self._last_s = time.monotonic()
            logger.warning("%s: figures could not be copied there (%s); tried again later", self._out, error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._temporary is None:
            return
        try:
            self.sync()
        except Exception as failed:  # as above
            if error is None:
                raise
            error.add_note(f"{self._out}: its last figures could not be copied there ({failed})")
        finally:
            self._temporary.cleanup()


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def _version(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns
