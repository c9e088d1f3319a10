"""The inputs: which files a user's arguments name, local or remote."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import fsspec
from fsspec.implementations.local import LocalFileSystem

from curate.media.version import local_version, remote_version
from curate.place import MAGIC, is_url, locate
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
    excluded = f"{_uri(*locate(exclude))}/" if exclude else "\0"
    sources: dict[str, Source] = {}
    failures: list[Failure] = []
    for text in inputs:
        found = [entry for entry in _expand(text) if not _name(entry).startswith(excluded)]
        if not found:
            failures.append(_failure(absolute(text), FailureKind.MISSING, "no such file, and no folder with files"))
        failures += [entry for entry in found if isinstance(entry, Failure)]
        sources.update((entry.uri, entry) for entry in found if isinstance(entry, Source))
    return [sources[uri] for uri in sorted(sources)], failures


def version_now(uri: str) -> str | None:
    """The version of a file as it is at this moment; None where it is gone or cannot be looked at."""
    fs, path = locate(uri)
    fs.invalidate_cache(path)
    found = _source(fs, path)
    return found.version if isinstance(found, Source) else None


def absolute(text: str) -> str:
    """An input as it is named from any folder: one file has one path, however it was typed."""
    return text if is_url(text) else locate(text)[1]


def _expand(text: str) -> Iterator[Source | Failure]:
    fs, path = locate(absolute(text))
    for name in _matches(fs, path):
        if not fs.isdir(name):
            if fs.exists(name) or fs.lexists(name):
                yield _source(fs, name)
            continue
        yield from _walk(fs, name, set())


def _matches(fs: fsspec.AbstractFileSystem, path: str) -> list[str]:
    """The paths that a path or a pattern names. What is there by its own name is no pattern, folders of it neither."""
    if not any(char in path for char in MAGIC) or fs.exists(path):
        return [path]
    literal = path.rpartition("/")[0]
    while any(char in literal for char in MAGIC) and not fs.isdir(literal):
        literal = literal.rpartition("/")[0]
    escaped = "".join(f"[{char}]" if char in MAGIC else char for char in literal)
    return sorted(fs.glob(escaped + path[len(literal) :]))


def _walk(fs: fsspec.AbstractFileSystem, name: str, seen: set[str]) -> Iterator[Source | Failure]:
    """The files of a folder and of those in it, by way of links, too; each folder once, however it is reached."""
    errors: list[OSError] = []
    for folder, folders, files in fs.walk(name, on_error=errors.append):
        if isinstance(fs, LocalFileSystem):
            if (real := os.path.realpath(folder)) in seen:
                folders.clear()
                continue
            seen.add(real)
        folders[:] = sorted(child for child in folders if not child.startswith("."))
        for child in files:
            path = f"{folder.rstrip('/')}/{child}"
            if child.startswith("."):
                continue
            if isinstance(fs, LocalFileSystem) and os.path.isdir(path):  # a link
                yield from _walk(fs, path, seen)
            else:
                yield _source(fs, path)
    for error in errors:
        yield _failure(str(error.filename or name), _kind(error), f"cannot be listed: {error.strerror or error}")


def _source(fs: fsspec.AbstractFileSystem, path: str) -> Source | Failure:
    """The file, or why it cannot be an input."""
    uri = _uri(fs, path)
    try:
        uri.encode()
    except UnicodeEncodeError:
        readable = uri.encode("utf-8", "backslashreplace").decode()
        return _failure(readable, FailureKind.IO, "its name is not UTF-8, so no table can hold it; rename it")
    try:
        info = fs.info(path)
        if info.get("islink") and not fs.exists(path):
            return _failure(uri, FailureKind.MISSING, "a link to a file that is not there")
        version = local_version(path) if isinstance(fs, LocalFileSystem) else remote_version(info)
    except OSError as error:
        return _failure(uri, _kind(error), error.strerror or str(error))
    return Source(uri=uri, size_bytes=int(info["size"] or 0), version=version)


def _kind(error: OSError) -> FailureKind:
    if isinstance(error, PermissionError):
        return FailureKind.PERMISSION
    return FailureKind.MISSING if isinstance(error, FileNotFoundError) else FailureKind.IO


def _name(entry: Source | Failure) -> str:
    return entry.uri if isinstance(entry, Source) else entry.subject


def _uri(fs: fsspec.AbstractFileSystem, path: str) -> str:
    """A local path as it is, a remote one as URL."""
    return path if isinstance(fs, LocalFileSystem) else str(fs.unstrip_protocol(path))


def _failure(subject: str, kind: FailureKind, detail: str) -> Failure:
    return Failure(subject=subject, step="scan", kind=kind, detail=detail)
