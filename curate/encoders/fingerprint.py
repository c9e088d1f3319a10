"""Names for what computed a value: digests of weights and configuration, equal on any machine that holds the same."""

import hashlib
import os
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from curate.schema import content_digest

NOT_CONTENT = frozenset({".md", ".lock"})


def path_digest(path: Path) -> str:
    """Digest of a file's bytes, or of the names and bytes of all files in a folder (hidden and README files aside).

    Each file is read once per process, and again only if its size or modification time differs. Its location does not
    count.

    Raises:
        FileNotFoundError: there is nothing at `path`.
    """
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if file.is_file() and _counts(file.relative_to(path))]
        return content_digest(*(f"{file.relative_to(path).as_posix()}={path_digest(file)}" for file in files))
    status = os.stat(path)
    return _file_digest(os.path.realpath(path), status.st_size, status.st_mtime_ns)


def library_versions(*names: str) -> dict[str, str]:
    """Versions of those of the packages that are installed, by name: for the record. Imports none of them."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def major_versions(*names: str) -> str:
    """Their major versions, for a key: a new one can change values, docs/decisions/fingerprints.md."""
    return " ".join(f"{name}={found.partition('.')[0]}" for name, found in library_versions(*names).items())


def other_libraries(stored: Mapping[str, str], what: str) -> str | None:
    """A sentence that names the library versions of `what` that differ from those installed; None if none does."""
    now = library_versions(*stored)
    changed = [f"{name} {old} (here {now.get(name, 'none')})" for name, old in stored.items() if now.get(name) != old]
    return f"{what} were made with {', '.join(changed)}: what is added can differ a little" if changed else None


def _counts(name: Path) -> bool:
    return name.suffix not in NOT_CONTENT and not any(part.startswith(".") for part in name.parts)


@lru_cache(maxsize=1024)
def _file_digest(path: str, size: int, mtime_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
