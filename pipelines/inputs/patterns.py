"""Globs and braces: the paths that one argument names."""

import os
from itertools import islice

import fsspec

from curate.storage.access import public
from curate.storage.place import MAGIC

HTTP_MAGIC = "*["
"""In URLs of HTTP a question mark begins the query."""
MAX_ALTERNATIVES = 1_000_000
"""Of a pattern in braces."""


def alternatives(text: str) -> list[str]:
    """The inputs that a pattern in braces stands for: `{000..099}.tar`; the text itself where it is a file's name.

    Raises:
        ValueError: the braces stand for too many.
    """
    if "{" not in text or "}" not in text or os.path.lexists(text):
        return [text]
    from braceexpand import braceexpand

    try:
        found = list(islice(braceexpand(text, escape=False), MAX_ALTERNATIVES + 1))
    except ValueError:  # they are not balanced
        return [text]
    if len(found) > MAX_ALTERNATIVES:
        raise ValueError(f"{public(text)}: the braces stand for more than {MAX_ALTERNATIVES:,} inputs")
    return found


def is_there(fs: fsspec.AbstractFileSystem, path: str) -> bool:
    return bool(fs.exists(path) or fs.lexists(path))


def matches(fs: fsspec.AbstractFileSystem, path: str) -> list[str]:
    """The paths that a path or a pattern names. What is there by its own name is no pattern, folders of it neither."""
    if not any(char in path for char in (HTTP_MAGIC if is_http(fs) else MAGIC)) or fs.exists(path):
        return [path]
    if is_http(fs):
        return sorted(fs.glob(path)) if fs.exists(page(path)) else []
    literal = path.rpartition("/")[0]
    while any(char in literal for char in MAGIC) and not fs.isdir(literal):
        literal = literal.rpartition("/")[0]
    escaped = "".join(f"[{char}]" if char in MAGIC else char for char in literal)
    return sorted(fs.glob(escaped + path[len(literal) :]))


def page(path: str) -> str:
    """The page that lists what a pattern of HTTP names; of a plain URL itself."""
    starts = [path.index(char) for char in HTTP_MAGIC if char in path]
    return path[: path.rindex("/", 0, min(starts)) + 1] if starts else path


def is_http(fs: fsspec.AbstractFileSystem) -> bool:
    return "http" in fs.protocol
