"""The inputs: which files a user's arguments name, local or remote."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import fsspec
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from curate.schema import Failure, FailureKind


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One input file. `version` changes when its bytes do: size and time of change, or the store's own tag."""

    uri: str
    size_bytes: int
    version: str


def list_sources(inputs: Sequence[str], exclude: str | None = None) -> tuple[list[Source], list[Failure]]:
    """Every file that the inputs name, once, sorted by URI; hidden files are passed over.

    Args:
        inputs: files, folders (read to the bottom), globs; local paths or fsspec URLs.
        exclude: a folder that is no input though it may lie in one: the dataset that is being written.

    Returns:
        The files, and a failure for each input that names nothing or cannot be listed.
    """
    excluded = f"{_uri(*url_to_fs(exclude))}/" if exclude else "\0"
    sources: dict[str, Source] = {}
    failures: list[Failure] = []
    for text in inputs:
        try:
            found = list(_expand(text))
        except PermissionError as error:
            failures.append(_failure(text, FailureKind.PERMISSION, str(error)))
            continue
        if not found:
            failures.append(_failure(text, FailureKind.MISSING, "no such file, and no folder with files"))
        sources.update((source.uri, source) for source in found if not source.uri.startswith(excluded))
    return [sources[uri] for uri in sorted(sources)], failures


def _expand(text: str) -> Iterator[Source]:
    fs, path = url_to_fs(text)
    for name in fs.glob(path) if fsspec.core.has_magic(path) and not fs.exists(path) else [path]:
        if fs.isfile(name):
            yield _source(fs, name)
        elif fs.isdir(name):
            if isinstance(fs, LocalFileSystem):
                fs.ls(name)  # find() would pass over a folder that may not be read
            for child in fs.find(name):
                if not any(part.startswith(".") for part in child[len(name) :].split("/")):
                    yield _source(fs, child)


def _source(fs: fsspec.AbstractFileSystem, path: str) -> Source:
    info = fs.info(path)
    tag = next((info[key] for key in ("ETag", "etag", "mtime", "LastModified") if info.get(key) is not None), "")
    size = int(info["size"] or 0)
    return Source(uri=_uri(fs, path), size_bytes=size, version=f"{size}-{tag}")


def _uri(fs: fsspec.AbstractFileSystem, path: str) -> str:
    """A local path as it is, a remote one as URL."""
    return path if isinstance(fs, LocalFileSystem) else str(fs.unstrip_protocol(path))


def _failure(subject: str, kind: FailureKind, detail: str) -> Failure:
    return Failure(subject=subject, step="scan", kind=kind, detail=detail)
