"""URIs of what is inside a file: a member of a tar, a row of a table, a stretch of a video.

`FILE//NAME`. No local path has two slashes in a row, since paths are normalized; an object of a store whose own URL
reads so is refused as an input. A name never has two slashes in a row either, nor `?`, `#` or `,`: these are escaped.
"""

import re
from urllib.parse import unquote

CONTAINERS = (".tar", ".parquet", ".arrow")
"""Endings of the files whose members are inputs."""
MARK = "//"
_ESCAPED = re.compile(r"[%?#,\x00-\x1f\x7f]|(?<![^/])/|(?<![^/])\.{1,2}(?![^/])")
"""What would end the name elsewhere, and slashes and dots that a path would lose."""
_STRETCH = re.compile(r"(.*)//([tsf])=([^/,]+),([^/,]+)", re.DOTALL)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://")

Ends = tuple[str, str, str]
"""The unit of a stretch and its two ends, as written: `t` from the first frame, `s` seconds on the file's clock, `f`
numbers of frames."""


def member_uri(container: str, name: str) -> str:
    """The URI of a member of a file.

    Raises:
        UnicodeEncodeError: the name is not UTF-8.
    """
    return f"{container}{MARK}{_ESCAPED.sub(_escape, name)}"


def split_member(uri: str) -> tuple[str, str] | None:
    """The file, with its signature where the URI has one, and the name of the member; None for a file of its own."""
    container, mark, name = uri.rpartition(MARK)
    path = container.partition("?")[0] if _URL.match(container) else container
    if not mark or not path.lower().endswith(CONTAINERS):
        return None
    return container, unquote(name)


def stretch_uri(uri: str, ends: Ends) -> str:
    """The URI of a stretch of a video."""
    unit, start, end = ends
    return f"{uri}{MARK}{unit}={start},{end}"


def split_stretch(uri: str) -> tuple[str, Ends] | None:
    """The URI of the video, and the ends of the stretch; None for a whole file."""
    found = _STRETCH.fullmatch(uri)
    return found and (found[1], (found[2], found[3], found[4]))


def file_uri(uri: str) -> str:
    """The URI of the file or member that a stretch is of; of anything else the URI as it is."""
    stretch = split_stretch(uri)
    return stretch[0] if stretch else uri


def container_uri(uri: str) -> str:
    """The URI of the file that something is inside of; of a whole file its own."""
    uri = file_uri(uri)
    member = split_member(uri)
    return member[0] if member else uri


def _escape(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode())
