"""What takes long to find and is kept in DATASET/cache, under a digest of all that it depends on. It can be removed at
any time."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pyarrow as pa

from curate.dataset.table import open_parquet, tables_of

if TYPE_CHECKING:
    import pyarrow.dataset as ds  # loads pandas

FOUND_IN = b"found_in"
KEPT_FROM = 20_000
"""Rows that are joined faster than they are kept."""


def open_found(url: str, digest: str) -> "ds.Dataset | None":
    """A file of the cache, if it was found in what `digest` names."""
    try:
        table = open_parquet(url)
    except pa.ArrowInvalid:
        return None  # what is there is no table
    return table if table is not None and (table.schema.metadata or {}).get(FOUND_IN) == digest.encode() else None


def tables_found(found: "ds.Dataset", columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The rows of `open_found`, without what only the cache says of them."""
    for table in tables_of(found, columns):
        metadata = {name: value for name, value in (table.schema.metadata or {}).items() if name != FOUND_IN}
        yield table.replace_schema_metadata(metadata or None)


def code_of(*packages: ModuleType) -> list[bytes]:
    """The modules of packages, which decide what is found."""
    folders = (Path(str(package.__file__)).parent for package in packages)
    return [file.read_bytes() for folder in folders for file in sorted(folder.glob("*.py"))]


def digest_of(values: Iterable[str | bytes]) -> str:
    """Names the values."""
    digest = hashlib.sha256()
    for value in values:
        data = value if isinstance(value, bytes) else value.encode()
        digest.update(len(data).to_bytes(8))
        digest.update(data)
    return digest.hexdigest()
