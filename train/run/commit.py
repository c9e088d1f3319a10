"""Folders of checkpoints that are there whole or not at all.

On this machine's filesystems a folder is written under a temporary name, and gets its own by one rename. A store of
objects has no such rename: there a folder is whole where its table of checksums is, which gets its name last.
"""

import shutil
from pathlib import Path

from curate.storage import publish
from curate.storage.place import AnyPath

CHECKSUMS = "checksums.json"
UNPUBLISHED = ".checksums.json.tmp"
"""The table of a folder on another filesystem until the folder is published."""


def draft_of(folder: AnyPath) -> AnyPath:
    """Where the files of a folder are written before it is published."""
    return folder.with_name(f".{folder.name}.tmp") if isinstance(folder, Path) else folder


def begin_folder(folder: AnyPath) -> AnyPath:
    """An empty draft of a folder."""
    draft = draft_of(folder)
    if isinstance(draft, Path):
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
    else:
        remove_folder(draft)
    return draft


def publish_folder(folder: AnyPath) -> None:
    """Publish the draft, whose files are all stored: what is there is intact, also after a power cut."""
    if not isinstance(folder, Path):
        publish.write_text(str(folder / CHECKSUMS), (folder / UNPUBLISHED).read_text())
        (folder / UNPUBLISHED).unlink()
        return
    draft = folder.with_name(f".{folder.name}.tmp")
    publish.sync_folder(draft)
    if folder.exists():
        remove_folder(folder)
    draft.rename(folder)
    publish.sync_folder(folder.parent)


def is_published(folder: AnyPath) -> bool:
    """Whether a folder with the name of a published one is such."""
    return isinstance(folder, Path) or (folder / CHECKSUMS).exists()


def remove_folder(folder: AnyPath) -> None:
    """Remove a folder so that at no time half of it is taken for the whole."""
    if not isinstance(folder, Path):
        (folder / CHECKSUMS).unlink(missing_ok=True)
        publish.remove_folder(str(folder))
        return
    doomed = folder.with_name(f".{folder.name}.removed")
    shutil.rmtree(doomed, ignore_errors=True)
    folder.rename(doomed)
    shutil.rmtree(doomed)


def remove_left_over(run: AnyPath) -> None:
    """Remove what a training that was killed has left in its folder; called while no other process trains there."""
    checkpoints = run / "checkpoints"
    if isinstance(checkpoints, Path):
        for pattern in (".step-*.tmp", ".step-*.removed"):
            for left in checkpoints.glob(pattern):
                shutil.rmtree(left)
    else:
        for folder in checkpoints.glob("step-*"):
            if not is_published(folder):
                remove_folder(folder)
    publish.remove_unfinished(str(run), ("run.json", "config.yaml"))
