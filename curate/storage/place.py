"""Location of a path or URL: the one place that decides what is a URL.

fsspec reads `::` in any name as a chain of filesystems, `~` as a home, and any text before `://` as a protocol.
Names of files hold all of these: a path that is no URL of a known protocol is taken as it is.
"""

import os
import re
from pathlib import Path
from typing import Any, TypeAlias

import fsspec
from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import known_implementations, registry
from upath import UPath

CHAINING = frozenset(
    {"blockcache", "cached", "dir", "filecache", "libarchive", "reference", "simplecache", "tar", "zip"}
)
"""Protocols that stand in front of another URL: `zip://a.mp4::s3://bucket/videos.zip`."""
MAGIC = "*?["
AnyPath: TypeAlias = Path | UPath
"""A path of this machine, or one of another filesystem with the same methods."""


def is_url(text: str) -> bool:
    """Whether a text is a URL of a filesystem other than the local one."""
    protocol = _protocol(text)
    return protocol is not None and protocol not in LocalFileSystem.protocol


def locate(text: str | os.PathLike[str]) -> tuple[AbstractFileSystem, str]:
    """The filesystem of a path or URL, and the path there. Names are never parsed: `a::b.mp4` is a file.

    Raises:
        ValueError, ImportError: of the filesystem, such as one whose package is not installed.
    """
    text = os.fspath(text)
    protocol = _protocol(text)
    if protocol is None:
        return LocalFileSystem(), local_path(text)
    if protocol in LocalFileSystem.protocol:
        return LocalFileSystem(), local_path(text.partition("://")[2])
    if protocol in CHAINING:
        fs, path = url_to_fs(text)
        return fs, str(path)
    kind: Any = fsspec.get_filesystem_class(protocol)
    fs = fsspec.filesystem(protocol, **kind._get_kwargs_from_urls(text))
    return fs, str(fs._strip_protocol(text))


def url_of(fs: AbstractFileSystem, path: str) -> str:
    """What `locate` reads back: a local path as it is, a remote one as URL, with host and user where paths lack them.

    FTP, SFTP, SMB and HDFS keep the host in the filesystem: their `unstrip_protocol` gives a URL without it.
    """
    if isinstance(fs, LocalFileSystem):
        return path
    url = str(fs.unstrip_protocol(path))
    options = fs.storage_options
    if not options.get("host") or fs._get_kwargs_from_urls(url).get("host"):
        return url
    user, password = options.get("username") or options.get("user"), options.get("password")
    login = f"{user}:{password}@" if password else f"{user}@" if user else ""
    port = f":{options['port']}" if options.get("port") else ""
    return f"{url.partition('://')[0]}://{login}{options['host']}{port}/{path.lstrip('/')}"


def local_path(text: str) -> str:
    """An absolute local path. `~` is a home where nothing has that name."""
    if text.startswith("~") and not os.path.lexists(text):
        text = os.path.expanduser(text)
    return os.path.abspath(text)


def path_of(text: str | AnyPath) -> AnyPath:
    """A path or URL as an object with the methods of a path. It remembers no listing: other processes write, too."""
    if not isinstance(text, str):
        return text
    return UPath(text, use_listings_cache=False) if is_url(text) else Path(text)


def check_folder(folder: Path, option: str) -> None:
    """See that files of this machine can lie in a folder, which need not be there yet.

    Args:
        folder: where something is to be written.
        option: names it in the message.

    Raises:
        ValueError: it is a file, or would lie in one.
    """
    there = next((one for one in (folder, *folder.parents) if one.exists()), folder)
    if there.exists() and not there.is_dir():
        raise ValueError(f"{option}: {there} is a file, and a folder is expected there; choose another name")


def children(url: str) -> list[str]:
    """Names in a folder, sorted; none where it is not there."""
    fs, path = locate(url)
    fs.invalidate_cache(path)  # another process may have written since
    try:
        entries = fs.ls(path, detail=False)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(name for entry in entries if (name := entry.rstrip("/").rpartition("/")[2]))


def folders(url: str) -> list[str]:
    """Names of the folders in a folder, sorted; none where it is not there."""
    fs, path = locate(url)
    fs.invalidate_cache(path)
    entries = fs.ls(path, detail=True) if fs.isdir(path) else []
    return sorted(entry["name"].rstrip("/").rpartition("/")[2] for entry in entries if entry["type"] == "directory")


def _protocol(text: str) -> str | None:
    """The protocol of a URL, of the outermost one of a chain; None for a path."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.\-]*)(://|::)", text)
    if match is None:
        return None
    protocol, mark = match[1].lower(), match[2]
    if mark == "::" and protocol not in CHAINING:
        return None
    return protocol if protocol in known_implementations or protocol in registry else None
