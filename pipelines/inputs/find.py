"""What an input names: media, and files and folders that hold some. Each kind is known by what is there."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

import fsspec
from fsspec.implementations.local import LocalFileSystem

from curate.dataset.layout import CLIPS_FILE
from curate.media.origin import reaching
from curate.media.recognize import NUM_BYTES, may_be_media
from curate.schema import Failure, FailureKind, MediaError
from curate.storage.access import public
from curate.storage.place import locate, url_of
from pipelines.inputs.patterns import alternatives, is_http, is_there, matches
from pipelines.inputs.sources import Source, absolute, failure_of, kind_of_error, source_of

LISTS = frozenset({"csv", "tsv", "jsonl", "ndjson", "json"})
"""Endings of lists of inputs, where they are named themselves."""
TEXTS = ("txt", "json")
"""Endings of what is said of a file, beside it under its name. A .json without a .txt is something else."""
OWN = frozenset({"config.yaml", CLIPS_FILE})
"""Files of a dataset of reelpack, which is passed over inside of other folders, and named gives its shards."""
METADATA = frozenset({"metadata.csv", "metadata.jsonl", "metadata.parquet"})
"""Files that say something of the other files of their folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Media:
    """A file that an input names, and the texts beside it in its folder that have its name."""

    source: Source
    beside: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Container:
    """A file or folder that holds inputs, or says something of those of its folder; `url` with its signature.

    `tar`: a WebDataset tar. `table`: a Parquet file with media in its rows. `dataset`: a folder that `datasets` saved.
    `list`: a list of files and URLs. `metadata`: says something of the files of its folder.
    """

    kind: Literal["tar", "table", "dataset", "list", "metadata"]
    url: str
    is_named: bool = True
    """By the user, and not found in a folder."""

    @property
    def uri(self) -> str:
        return public(self.url)


Found = Media | Container | Failure


def find(text: str, leave_out: Callable[[str], object] = lambda _: None) -> Iterator[Found]:
    """What an input names. Of folders, and of globs that name no ending, only what may be media
    (`curate.media.recognize`) or holds it; hidden files are passed over.

    Args:
        text: a file, a folder (read to the bottom), a glob, with alternatives in braces; a local path or fsspec URL.
        leave_out: called with each file that cannot be media.
    """
    for alternative in alternatives(text):
        found, name = False, absolute(alternative)
        try:
            with reaching(name):
                for entry in _expand(alternative, leave_out):
                    found = True
                    yield entry
        except MediaError as error:  # a store or hub that cannot be reached
            yield failure_of(name, error.kind, error.detail)
            continue
        if not found:
            yield failure_of(name, FailureKind.MISSING, "no such file, and no folder with files")


def _expand(text: str, leave_out: Callable[[str], object]) -> Iterator[Found]:
    fs, path = locate(absolute(text))
    ending = PurePosixPath(path).suffix
    for name in matches(fs, path):
        if not is_there(fs, name):  # asked first: of a page that a server refuses, fsspec's isdir raises
            continue
        is_named = name == path or bool(ending and name.endswith(ending))
        if fs.isdir(name):
            yield from _walk(fs, name, set(), leave_out)
        elif kind := _kind_of(fs, name, is_named=is_named):
            yield Container(kind=kind, url=url_of(fs, name), is_named=is_named)
        elif is_named or _is_tried(fs, name):
            stem = name.rpartition(".")[0]
            texts = [] if not stem or is_http(fs) else _texts(stem, fs.isfile)
            yield _media(fs, name, texts)
        else:
            leave_out(public(url_of(fs, name)))


def _kind_of(
    fs: fsspec.AbstractFileSystem, path: str, *, is_named: bool
) -> Literal["tar", "table", "list", "metadata"] | None:
    """What a file holds, by its ending; a Parquet file by its columns. None for media and for all else."""
    name = path.partition("?")[0].rpartition("/")[2].lower()
    ending = name.rpartition(".")[2]
    if ending == "tar":
        return "tar"
    if ending == "parquet":
        if _holds_media(fs, path):
            return "table"
        return "list" if is_named else "metadata" if name in METADATA else None
    if name in METADATA and not is_named:
        return "metadata"
    return "list" if is_named and ending in LISTS else None


def _holds_media(fs: fsspec.AbstractFileSystem, path: str) -> bool:
    from pipelines.inputs.tables import media_columns, read_schema

    try:
        return bool(media_columns(read_schema(fs, path)))
    except (OSError, ValueError):
        return False  # what reads it says why


def _texts(stem: str, is_there: Callable[[str], bool]) -> list[str]:
    """The names beside a file that say something of it."""
    text, *others = (f"{stem}.{ending}" for ending in TEXTS)
    return [text, *filter(is_there, others)] if is_there(text) else []


def _media(fs: fsspec.AbstractFileSystem, path: str, beside: Sequence[str]) -> Media | Failure:
    source = source_of(fs, path)
    if isinstance(source, Failure):
        return source
    return Media(source=source, beside=tuple(url_of(fs, one) for one in beside))


def _is_tried(fs: fsspec.AbstractFileSystem, path: str) -> bool:
    """Whether a file that was not named itself may be media."""

    def read_head() -> bytes:
        if not fs.isfile(path):
            raise OSError(f"{path} is no file to be opened")  # a pipe would wait for its writer
        with fs.open(path, "rb") as file:
            head: bytes = file.read(NUM_BYTES)
        return head

    return may_be_media(path, read_head)


def _walk(
    fs: fsspec.AbstractFileSystem, name: str, seen: set[str], leave_out: Callable[[str], object]
) -> Iterator[Found]:
    """The files of a folder and of those in it, also through links; each folder once, however it is reached."""
    errors: list[OSError] = []
    for folder, folders, files in fs.walk(name, on_error=errors.append):
        if isinstance(fs, LocalFileSystem):
            if (real := os.path.realpath(folder)) in seen:
                folders.clear()
                continue
            seen.add(real)
        folders[:] = sorted(child for child in folders if not child.startswith("."))
        names, unread, left_out = set(files), set(files), list[str]()
        if names >= OWN:
            is_named = folder.rstrip("/") == name.rstrip("/")
            folders[:] = [child for child in folders if is_named and child == "shards"]
            if not is_named:
                leave_out(public(url_of(fs, folder.rstrip("/"))))
            continue
        if "state.json" in names and any(child.endswith(".arrow") for child in names):
            folders.clear()
            yield Container(kind="dataset", url=url_of(fs, folder.rstrip("/")))
            continue
        for child in files:
            path = f"{folder.rstrip('/')}/{child}"
            if child.startswith("."):
                continue
            if isinstance(fs, LocalFileSystem) and os.path.isdir(path):  # a link
                yield from _walk(fs, path, seen, leave_out)
            elif kind := _kind_of(fs, path, is_named=False):
                yield Container(kind=kind, url=url_of(fs, path), is_named=False)
            elif _is_tried(fs, path):
                stem = child.rpartition(".")[0]
                texts = _texts(stem, names.__contains__)
                unread.difference_update(texts)
                yield _media(fs, path, [f"{folder.rstrip('/')}/{one}" for one in texts])
            else:
                left_out.append(child)
        for child in left_out:
            if child in unread:
                leave_out(public(url_of(fs, f"{folder.rstrip('/')}/{child}")))
    for error in errors:
        detail = f"cannot be listed: {error.strerror or error}"
        yield failure_of(str(error.filename or name), kind_of_error(error), detail)
