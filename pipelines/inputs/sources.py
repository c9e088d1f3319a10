"""The inputs: which files a user's arguments name, local or remote. What is in them: `pipelines.inputs.listing`."""

import difflib
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import fsspec
from fsspec.implementations.local import LocalFileSystem

from curate.media.origin import REFUSALS, not_found, reaching
from curate.media.version import local_version, remote_version
from curate.schema import Failure, FailureKind, MediaError
from curate.storage.access import public, without_secrets
from curate.storage.inside import split_member, split_stretch
from curate.storage.place import MAGIC, is_url, locate, url_of
from pipelines.inputs.patterns import alternatives, is_http, is_there, matches, page

IN_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray in the entry point of a submitted job."""
MAX_NAMES = 5
"""Of files that are left out, those that are named."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One input: a file, a member of one, or a stretch of a video. `version` changes when its bytes do: size and time
    of change, or the store's own tag. `where` is what named it, such as the line of a list."""

    uri: str
    size_bytes: int
    version: str
    signed: str | None = field(default=None, repr=False)
    """The URI with what gives access to it; only to fetch by, and stored nowhere."""
    where: str = ""

    @property
    def address(self) -> str:
        """What it is fetched from."""
        return self.signed or self.uri


def refuse_mistyped(inputs: Sequence[str], known: Collection[str] = ()) -> None:
    """Refuse inputs that name nothing, before anything is made of the others.

    Args:
        inputs: as `list_sources` takes them.
        known: what was an input before: its files are gone, or out of reach.

    Raises:
        ValueError: there is no such file or folder, or nothing that a glob names.
    """
    for text in inputs:
        if named(text) not in known and not any(map(_names_something, alternatives(text))):
            raise ValueError(
                f"{public(text)}: {_nothing_there(text)}; give files, folders or globs of videos and images"
            )


def _names_something(text: str) -> bool:
    """Whether there is anything; what cannot be reached may have it, and is a failure of the listing."""
    fs, path = locate(absolute(text))
    try:
        with reaching(text):
            return any(is_there(fs, name) for name in matches(fs, path))
    except MediaError:
        return True


def _nothing_there(text: str) -> str:
    fs, path = locate(absolute(text))
    if is_http(fs):
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
        fs.info(page(path))
    except OSError as error:
        status = getattr(error.__cause__, "status", None)
        if status is None:
            return f"cannot be fetched ({without_secrets(str(error.__cause__ or error))})"
        return f"the server answers {status}" + ("; has its signature expired?" if status in REFUSALS else "")
    return "no files found of that pattern"


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
    found = source_of(fs, path)
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


def source_of(fs: fsspec.AbstractFileSystem, path: str) -> Source | Failure:
    """The file, or why it cannot be an input."""
    uri = url_of(fs, path)
    if split_member(uri) or split_stretch(uri):
        return failure_of(uri, FailureKind.IO, "its name reads as that of a member of another file; rename it")
    try:
        uri.encode()
    except UnicodeEncodeError:
        readable = uri.encode("utf-8", "backslashreplace").decode()
        return failure_of(readable, FailureKind.IO, "its name is not UTF-8, so no table can hold it; rename it")
    try:
        info = fs.info(path)
        if info.get("islink") and not fs.exists(path):
            return failure_of(uri, FailureKind.MISSING, "a link to a file that is not there")
        version = local_version(path) if isinstance(fs, LocalFileSystem) else remote_version(info)
    except OSError as error:
        kind, detail = not_found(error) or (kind_of_error(error), error.strerror or str(error))
        return failure_of(uri, kind, detail)
    return Source(
        uri=public(uri),
        size_bytes=int(info["size"] or 0),
        version=version,
        signed=None if public(uri) == uri else uri,
    )


def kind_of_error(error: OSError) -> FailureKind:
    if isinstance(error, PermissionError):
        return FailureKind.PERMISSION
    return FailureKind.MISSING if isinstance(error, FileNotFoundError) else FailureKind.IO


def failure_of(subject: str, kind: FailureKind, detail: str) -> Failure:
    """A failure to list an input."""
    return Failure(subject=public(subject), step="scan", kind=kind, detail=without_secrets(detail))
