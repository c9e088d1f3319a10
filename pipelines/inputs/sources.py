"""The inputs: which files a user's arguments name, local or remote."""

import difflib
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import fsspec
from fsspec.implementations.local import LocalFileSystem

from curate.media.recognize import NUM_BYTES, may_be_media
from curate.media.version import local_version, remote_version
from curate.schema import Failure, FailureKind
from curate.storage.access import public, without_secrets
from curate.storage.place import MAGIC, is_url, locate, url_of

IN_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray in the entry point of a submitted job."""
HTTP_MAGIC = "*["
"""In URLs of HTTP a question mark begins the query."""
REFUSALS = (401, 403)
"""Of HTTP: the one who asks may not have it."""
MAX_NAMES = 5
"""Of files that are left out, those that are named."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One input file. `version` changes when its bytes do: size and time of change, or the store's own tag."""

    uri: str
    size_bytes: int
    version: str
    signed: str | None = field(default=None, repr=False)
    """The URI with what gives access to it; only to fetch by, and stored nowhere."""

    @property
    def address(self) -> str:
        """What it is fetched from."""
        return self.signed or self.uri


def list_sources(
    inputs: Sequence[str], exclude: str | None = None, leave_out: Callable[[str], object] = lambda _: None
) -> tuple[list[Source], list[Failure]]:
    """Every file that the inputs name, once, sorted by URI. Of folders, and of globs that name no ending, only what
    may be media (`curate.media.recognize`); hidden files are passed over.

    Args:
        inputs: files, folders (read to the bottom), globs; local paths or fsspec URLs.
        exclude: a folder that is skipped although it can be inside an input: the dataset that is written.
        leave_out: called with each file that cannot be media.

    Returns:
        The files, and a failure for each input that names nothing or cannot be listed.
    """
    excluded = f"{url_of(*locate(exclude))}/" if exclude else "\0"
    sources: dict[str, Source] = {}
    failures: list[Failure] = []
    for text in inputs:
        found = [entry for entry in _expand(text, leave_out) if not _name(entry).startswith(excluded)]
        if not found:
            failures.append(_failure(absolute(text), FailureKind.MISSING, "no such file, and no folder with files"))
        failures += [entry for entry in found if isinstance(entry, Failure)]
        sources.update((entry.uri, entry) for entry in found if isinstance(entry, Source))
    return [sources[uri] for uri in sorted(sources)], failures


def refuse_mistyped(inputs: Sequence[str], known: Collection[str] = ()) -> None:
    """Refuse inputs that name nothing, before anything is made of the others.

    Args:
        inputs: as `list_sources` takes them.
        known: what was an input before: its files are gone, or out of reach.

    Raises:
        ValueError: there is no such file or folder, or nothing that a glob names.
    """
    for text in inputs:
        fs, path = locate(absolute(text))
        if named(text) not in known and not any(_is_there(fs, name) for name in _matches(fs, path)):
            raise ValueError(
                f"{public(text)}: {_nothing_there(text)}; give files, folders or globs of videos and images"
            )


def _nothing_there(text: str) -> str:
    fs, path = locate(absolute(text))
    if _is_http(fs):
        return _answer(fs, path)
    if any(char in path for char in MAGIC):
        return "no files found of that pattern"
    parent, _, name = path.rstrip("/").rpartition("/")
    try:
        names = [entry.rpartition("/")[2] for entry in fs.ls(parent, detail=False)]
    except OSError:
        return f"no such file or folder, and no folder {parent}"
    nearest = difflib.get_close_matches(name, names, n=1)
    return f"no such file or folder{f'; there is {nearest[0]}' if nearest else ''}"


def _answer(fs: fsspec.AbstractFileSystem, path: str) -> str:
    """The answer of a web server for a file, or for the page that a pattern is looked up in: fsspec reports every
    refusal as a missing file."""
    try:
        fs.info(_page(path))
    except OSError as error:
        status = getattr(error.__cause__, "status", None)
        if status is None:
            return f"cannot be fetched ({without_secrets(str(error.__cause__ or error))})"
        return f"the server answers {status}" + ("; has its signature expired?" if status in REFUSALS else "")
    return "no files found of that pattern"


def _page(path: str) -> str:
    """The page that lists what a pattern of HTTP names; of a plain URL itself."""
    starts = [path.index(char) for char in HTTP_MAGIC if char in path]
    return path[: path.rindex("/", 0, min(starts)) + 1] if starts else path


def _is_http(fs: fsspec.AbstractFileSystem) -> bool:
    return "http" in fs.protocol


def left_out_text(files: Sequence[str]) -> str:
    """How many files of folders are no inputs, and the names of some."""
    names = ", ".join(text.rpartition("/")[2] for text in sorted(files)[:MAX_NAMES])
    more = f", … and {len(files) - MAX_NAMES} more" if len(files) > MAX_NAMES else ""
    count = "1 file" if len(files) == 1 else f"{len(files):,} files"
    return f"left out, no media: {count} ({names}{more}); a file that is named itself is tried"


def version_now(uri: str) -> str | None:
    """The version of a file as it is at this moment; None where it is gone or cannot be looked at."""
    fs, path = locate(uri)
    fs.invalidate_cache(path)
    found = _source(fs, path)
    return found.version if isinstance(found, Source) else None


def absolute(text: str) -> str:
    """An input as it is named from any folder: one file has one path, however it was typed."""
    return text if is_url(text) else locate(text)[1]


def kept_by_job(text: str) -> str:
    """An output, or what workers read, as it is named from any folder.

    Raises:
        ValueError: a relative path in a job of Ray: what is written there goes with the job.
    """
    if IN_JOB in os.environ and not (is_url(text) or os.path.isabs(text) or text.startswith("~")):
        raise ValueError(
            f"{text}: got a relative path, which in a job of Ray is in its copy of the working directory, and is "
            "removed with it; expected an absolute path, or a URL, that every worker sees"
        )
    return absolute(text)


def named(text: str) -> str:
    """An input as it is recorded: absolute, and without a signature."""
    return public(absolute(text))


def _expand(text: str, leave_out: Callable[[str], object]) -> Iterator[Source | Failure]:
    fs, path = locate(absolute(text))
    ending = PurePosixPath(path).suffix
    for name in _matches(fs, path):
        if not _is_there(fs, name):  # asked first: of a page that a server refuses, fsspec's isdir raises
            continue
        if fs.isdir(name):
            yield from _walk(fs, name, set(), leave_out)
        elif name == path or (ending and name.endswith(ending)) or _is_tried(fs, name):
            yield _source(fs, name)
        else:
            leave_out(public(url_of(fs, name)))


def _is_there(fs: fsspec.AbstractFileSystem, path: str) -> bool:
    return bool(fs.exists(path) or fs.lexists(path))


def _is_tried(fs: fsspec.AbstractFileSystem, path: str) -> bool:
    """Whether a file that was not named itself may be media."""

    def read_head() -> bytes:
        if not fs.isfile(path):
            raise OSError(f"{path} is no file to be opened")  # a pipe would wait for its writer
        with fs.open(path, "rb") as file:
            head: bytes = file.read(NUM_BYTES)
        return head

    return may_be_media(path, read_head)


def _matches(fs: fsspec.AbstractFileSystem, path: str) -> list[str]:
    """The paths that a path or a pattern names. What is there by its own name is no pattern, folders of it neither."""
    if not any(char in path for char in (HTTP_MAGIC if _is_http(fs) else MAGIC)) or fs.exists(path):
        return [path]
    if _is_http(fs):
        return sorted(fs.glob(path)) if fs.exists(_page(path)) else []
    literal = path.rpartition("/")[0]
    while any(char in literal for char in MAGIC) and not fs.isdir(literal):
        literal = literal.rpartition("/")[0]
    escaped = "".join(f"[{char}]" if char in MAGIC else char for char in literal)
    return sorted(fs.glob(escaped + path[len(literal) :]))


def _walk(
    fs: fsspec.AbstractFileSystem, name: str, seen: set[str], leave_out: Callable[[str], object]
) -> Iterator[Source | Failure]:
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
                yield from _walk(fs, path, seen, leave_out)
            elif _is_tried(fs, path):
                yield _source(fs, path)
            else:
                leave_out(public(url_of(fs, path)))
    for error in errors:
        yield _failure(str(error.filename or name), _kind(error), f"cannot be listed: {error.strerror or error}")


def _source(fs: fsspec.AbstractFileSystem, path: str) -> Source | Failure:
    """The file, or why it cannot be an input."""
    uri = url_of(fs, path)
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
    return Source(
        uri=public(uri),
        size_bytes=int(info["size"] or 0),
        version=version,
        signed=None if public(uri) == uri else uri,
    )


def _kind(error: OSError) -> FailureKind:
    if isinstance(error, PermissionError):
        return FailureKind.PERMISSION
    return FailureKind.MISSING if isinstance(error, FileNotFoundError) else FailureKind.IO


def _name(entry: Source | Failure) -> str:
    return entry.uri if isinstance(entry, Source) else entry.subject


def _failure(subject: str, kind: FailureKind, detail: str) -> Failure:
    return Failure(subject=public(subject), step="scan", kind=kind, detail=without_secrets(detail))
