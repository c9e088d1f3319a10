"""The tables of a dataset: append-only Parquet parts, each published by one rename.

A table is a folder of parts. A part is written under a temporary name and renamed: nobody ever reads half of one, and
a kill leaves nothing but a file that no table holds. A rerun reads what is published, subtracts it from what it
wants, and computes the rest; where a key stands twice (a retry), the later part wins. No server, no locks: local paths
and fsspec URLs alike.
"""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from curate.schema import SCHEMA_VERSION

VERSION_KEY = b"reelpack_schema_version"


class Table:
    """One table: rows of `schema`, unique by the columns `key`.

    Args:
        url: folder of the parts, a local path or an fsspec URL; it need not exist yet.
        schema: Arrow schema of every part.
        key: names of the columns that identify a row.
    """

    def __init__(self, url: str, schema: pa.Schema, key: Sequence[str]) -> None:
        self.url = url.rstrip("/")
        self.schema = schema.with_metadata({VERSION_KEY: str(SCHEMA_VERSION).encode()})
        self.key = tuple(key)
        self._fs, self._path = url_to_fs(self.url)

    def publish(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows as one part; all of them or none. No rows, no part."""
        table = pa.Table.from_pylist(list(rows), schema=self.schema)
        if table.num_rows:
            number = max((int(name.split("-")[1]) for name in self._parts()), default=-1) + 1
            write_parquet(f"{self.url}/part-{number:06d}-{uuid.uuid4().hex[:8]}.parquet", table)

    def read(self) -> pa.Table:
        """All rows, one per key (the last part that holds a key wins), sorted by key; empty if nothing is there.

        Raises:
            ValueError: a part that another version of the schema wrote, or that cannot be read.
        """
        parts = [self._read_part(f"{self._path}/{name}") for name in self._parts()]
        if not parts:
            return self.schema.empty_table()
        table = pa.concat_tables(parts)
        keys = list(zip(*(table[column].to_pylist() for column in self.key), strict=True))
        last = {key: row for row, key in enumerate(keys)}
        return table.take([last[key] for key in sorted(last)])

    def rows(self) -> list[dict[str, Any]]:
        return self.read().to_pylist()

    def _parts(self) -> list[str]:
        if not self._fs.isdir(self._path):
            return []
        self._fs.invalidate_cache(self._path)
        names = (entry.rpartition("/")[2] for entry in self._fs.ls(self._path, detail=False))
        return sorted(name for name in names if name.startswith("part-") and name.endswith(".parquet"))

    def _read_part(self, path: str) -> pa.Table:
        try:
            table = pq.read_table(path, filesystem=self._fs, partitioning=None)
        except pa.ArrowInvalid as error:
            raise ValueError(f"{path} is not a readable Parquet file ({error}); remove it and run again") from error
        version = (table.schema.metadata or {}).get(VERSION_KEY, b"none").decode()
        if version != str(SCHEMA_VERSION):
            raise ValueError(
                f"{path}: got schema version {version}, expected {SCHEMA_VERSION}; "
                "use the reelpack version that wrote it, or curate into a new directory"
            )
        return table.select(self.schema.names).cast(self.schema)


@contextmanager
def publish(url: str) -> Iterator[IO[bytes]]:
    """Open `url` for writing so that readers see all of it or nothing.

    Local files get a temporary name and one rename; on object stores the one PUT when the file is closed is already
    atomic. An exception inside the block leaves nothing under `url`.
    """
    fs, path = url_to_fs(url)
    folder, _, name = path.rpartition("/")
    fs.makedirs(folder, exist_ok=True)
    if not isinstance(fs, LocalFileSystem):
        file = fs.open(path, "wb")
        try:
            yield file
        except BaseException:
            file.discard()
            raise
        file.close()
        return
    temporary = Path(folder) / f".{name}.{uuid.uuid4().hex}.tmp"
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_parquet(url: str, table: pa.Table) -> None:
    """Publish one Parquet file; equal rows give equal bytes."""
    with publish(url) as file:
        pq.write_table(table, file)


def write_text(url: str, text: str) -> None:
    """Publish a small text file."""
    with publish(url) as file:
        file.write(text.encode())
