"""The folder that an export gets: what is there looks whole when it is.

Files are written one by one, each whole or not at all. On a local disk they lie in OUT/.unfinished/files until all are
there, and are moved by renames; object stores have no renames, so there they lie in OUT from the first. In both,
OUT/.unfinished/plan.json is there until the end. It names what is exported, so that the same export resumes.
"""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from curate.storage.lease import FOLDER as LEASES
from curate.storage.place import children, locate
from curate.storage.publish import remove_folder, sync_folder, unfinished_name, write_text

UNFINISHED = ".unfinished"
RECORD = "dataset.json"
"""What a finished export is of; the last file that appears."""


class Folder:
    """The folder of one export.

    Args:
        url: a path or URL.
        plan: names the clips, the layout and its settings.
    """

    def __init__(self, url: str, plan: str) -> None:
        self.url, self.plan = url.rstrip("/"), plan
        self._fs, self._path = locate(self.url)
        self._is_local = isinstance(self._fs, LocalFileSystem)
        self._note = f"{self.url}/{UNFINISHED}/plan.json"
        self._files = f"{self.url}/{UNFINISHED}/files" if self._is_local else self.url

    def is_finished(self) -> bool:
        """Whether this export is there, whole.

        Raises:
            ValueError: the folder holds other files, or another export that was stopped.
        """
        if self._fs.exists(self._path) and not self._fs.isdir(self._path):
            raise ValueError(self._foreign("a file"))
        names, note = set(children(self.url)) - {LEASES, UNFINISHED}, _read(self._note)
        if note is None:
            if names and (_read(f"{self.url}/{RECORD}") or {}).get("plan") != self.plan:
                raise ValueError(self._foreign("not an empty folder"))
            return bool(names)
        if note["plan"] != self.plan:
            raise ValueError(
                f"--out {self.url} holds an export of other clips or settings that was stopped; remove the "
                "folder, or give another one"
            )
        if names and self._is_local and not note["written"]:
            raise ValueError(self._foreign("not an empty folder"))
        return False

    def begin(self) -> None:
        """Mark the folder as unfinished, or resume: half-written files of a killed process are removed."""
        if _read(self._note) is None:
            write_text(self._note, json.dumps({"plan": self.plan, "written": False}))
        if self._is_local:
            for path in Path(self._files).rglob(".*.tmp"):
                if unfinished_name(path.name) is not None:
                    path.unlink()

    def has(self, name: str) -> bool:
        """Whether a file was written by an earlier attempt."""
        if self._is_local:
            return Path(self._files, name).exists() or Path(self.url, name).exists()
        return f"{self._path}/{name}" in self._listed

    @cached_property
    def _listed(self) -> frozenset[str]:
        self._fs.invalidate_cache()
        return frozenset(self._fs.find(self._path))

    def place(self, name: str) -> str:
        """Where a file is to be written."""
        return f"{self._files}/{name}"

    def finish(self) -> None:
        """Make all files appear."""
        if self._is_local:
            write_text(self._note, json.dumps({"plan": self.plan, "written": True}))
            entries = sorted(Path(self._files).iterdir(), key=lambda path: path.name == RECORD)
            for entry in entries:
                entry.rename(Path(self.url, entry.name))
            sync_folder(Path(self.url))
        remove_folder(f"{self.url}/{UNFINISHED}")

    def _foreign(self, what: str) -> str:
        return f"--out {self.url} is {what}; give a new or an empty one"


def _read(url: str) -> dict[str, Any] | None:
    fs, path = locate(url)
    try:
        found = json.loads(fs.cat_file(path))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return found if isinstance(found, dict) else None
