"""What was generated, in a folder: it outlives the server, and is shown newest first."""

import json
import logging
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from curate.storage.publish import remove_unfinished, unfinished_name

logger = logging.getLogger(__name__)

NAME = re.compile(r"\d{8}-\d{6}-\d{3}-\d{1,20}\.(mp4|png)")
"""When, in UTC to a millisecond, and the seed: names sort by time."""
GIVEN = "given"
"""Folder of the pictures and clips that were uploaded."""


class Facts(BaseModel):
    """What the page takes of a .json; others have more."""

    prompt: str
    seed: int
    step: int
    size: str
    num_frames: int
    num_steps: int
    sampler: dict[str, Any]
    guidance: list[dict[str, Any]]


class Gallery:
    """An item is a video or a picture and its .json, which is written last: without it, a file is none."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.given = folder, folder / GIVEN
        self._facts: dict[str, Mapping[str, Any]] = {}  # of files that stay as they are
        self.given.mkdir(parents=True, exist_ok=True)
        for part in (self.folder, self.given):
            names = {unfinished_name(path.name) for path in part.iterdir()}
            remove_unfinished(str(part), {name for name in names if name is not None})

    def place(self, seed: int, suffix: str) -> Path:
        """A file that is not there yet, later in order than those that are."""
        while True:
            seconds, milliseconds = divmod(time.time_ns() // 1_000_000, 1000)
            moment = time.strftime("%Y%m%d-%H%M%S", time.gmtime(seconds))
            path = self.folder / f"{moment}-{milliseconds:03d}-{seed}{suffix}"
            if not path.exists():
                return path
            time.sleep(0.001)

    def names(self) -> list[str]:
        """Of the items, newest first."""
        there = {path.name for path in self.folder.iterdir()}
        whole = (name for name in there if NAME.fullmatch(name) and f"{Path(name).stem}.json" in there)
        return sorted(whole, reverse=True)

    def facts(self, name: str) -> Mapping[str, Any] | None:
        """Of an item; None: someone changed its .json to something else."""
        if name not in self._facts:
            beside = (self.folder / name).with_suffix(".json")
            try:
                facts = json.loads(beside.read_text())
                Facts.model_validate(facts)
            except (OSError, ValueError) as error:
                logger.warning("%s is not shown: %s cannot be read (%s)", name, beside, error)
                return None
            self._facts[name] = facts
        return self._facts[name]

    def file(self, name: str) -> Path | None:
        """An item by its name; None: there is none of it."""
        path = self.folder / name
        return path if NAME.fullmatch(name) and path.is_file() and path.with_suffix(".json").is_file() else None

    def remove(self, name: str) -> bool:
        """Whether there was such an item. Its .json goes first: what a kill leaves then is none."""
        path = self.file(name)
        if path is None:
            return False
        path.with_suffix(".json").unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        self._facts.pop(name, None)
        return True
