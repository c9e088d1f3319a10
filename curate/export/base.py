"""What every layout of an export is: files, each written by itself, and a guide for whoever reads them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from curate.export.shard_size import ShardSize
from curate.export.source import Clip, Source
from curate.storage.publish import publish


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """One file of an export.

    Attributes:
        name: Relative to the folder. Of several files that are written at once, the one that appears last.
        write: Writes it to a path or URL; what is there after an exception is not used.
        num_clips: How many clips are done once it is there.
    """

    name: str
    write: Callable[[str], None]
    num_clips: int = 0


class Layout(BaseModel, ABC):
    """How clips and captions lie in a folder, so that one tool reads them. A member adds `kind`; its other fields are
    what a user sets by `--set`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    shard_size: ClassVar[ShardSize] = ShardSize(clips=256)
    """Of files that hold several clips, where the user gives none."""
    takes_latents: ClassVar[bool] = False
    """Whether samples can hold stored latents."""

    @abstractmethod
    def files(self, source: Source) -> Iterator[File]:
        """Every file, in the order of writing; equal sources give equal files."""

    @abstractmethod
    def guide(self, source: Source) -> str:
        """Markdown for the card: how the tool reads the folder."""

    def data_files(self, split: str) -> str | None:
        """Pattern of the files of a split that the Hugging Face hub shows; None: it is left to the hub."""
        return None

    def check(self, source: Source) -> None:
        """Called before anything is written, and before threads start: imports what they need.

        Raises:
            ValueError: the clips cannot be laid out in this way.
            ImportError: a package that writes them is missing.
        """


def text_file(name: str, text: str) -> File:
    """A small file, such as settings of the tool."""
    return File(name=name, write=partial(write_bytes, payload=text.encode()))


def media_file(stem: str, clip: Clip) -> File:
    """The clip as it was cut, `stem` without its extension."""
    return File(name=f"{stem}.{clip.ext}", write=lambda url: write_bytes(url, clip.media()))


def write_bytes(url: str, payload: bytes) -> None:
    with publish(url) as file:
        file.write(payload)


def beside(facts: Mapping[str, Any], **given: Any) -> dict[str, Any]:
    """The user's columns, and what an export adds to them. A user's column with the name of an added one, such as
    `caption`, becomes `own_caption`."""
    return {f"own_{name}" if name in given else name: value for name, value in facts.items()} | given
