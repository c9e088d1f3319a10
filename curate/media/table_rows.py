"""Rows of tables that hold media: structs `{bytes, path}` as Hugging Face's `datasets` writes them, or plain bytes.

A row is named `NUMBER.COLUMN`. Of a Parquet file the row group of the row is read, one column of it; an Arrow file is
mapped into memory, a remote one from its copy.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from curate.media.origin import COPY_BYTES, remote_errors, version_of
from curate.schema import FailureKind, MediaError
from curate.storage.access import public
from curate.storage.inside import member_uri
from curate.storage.place import is_url, locate

if TYPE_CHECKING:
    import pyarrow as pa


class TableRow:
    """The media of one row."""

    def __init__(self, container: str, name: str, table: str | None) -> None:
        """`table` is a local path of an Arrow file; None for a Parquet file."""
        self.uri, self.name = member_uri(public(container), name), ""
        self._container, self._table = container, table
        number, _, self._column = name.partition(".")
        self._number = int(number) if number.isdecimal() else -1
        self._fs, self._path = locate(container)

    def look(self) -> tuple[int | None, str]:
        return None, row_version(version_of(self._container, self._fs, self._path), self._number)

    def chunks(self) -> Iterator[bytes]:
        version = version_of(self._container, self._fs, self._path)
        with remote_errors(self.uri):
            value = self._value(version)
        data = value.get("bytes") if isinstance(value, dict) else value
        if data:
            for at in range(0, len(data), COPY_BYTES):
                yield data[at : at + COPY_BYTES]
            return
        path = value.get("path") if isinstance(value, dict) else None
        if not path:
            raise MediaError(FailureKind.MISSING, f"{self.uri}: the row has neither bytes nor a path")
        yield from self._at(path)

    def _value(self, version: str) -> Any:
        if self._table is None:
            column, first = _parquet_column(self._container, version, self._column, self._number)
        else:
            column, first = _arrow_column(self._table, version, self._column, self._number), 0
        return column[self._number - first].as_py()

    def _at(self, path: str) -> Iterator[bytes]:
        """The file that a row names, by a path of its own or one from the table's folder."""
        where = path if is_url(path) or path.startswith("/") else f"{self._container.rpartition('/')[0]}/{path}"
        fs, name = locate(where)
        if not fs.isfile(name):
            raise MediaError(FailureKind.MISSING, f"{self.uri}: its path {public(where)} is no file")
        with remote_errors(self.uri), fs.open(name, "rb") as file:
            while data := file.read(COPY_BYTES):
                yield data


def row_version(version: str, number: int) -> str:
    """The version of a row of a table with this version."""
    return f"{version}@{number}"


@lru_cache(maxsize=2)
def _footer(container: str, version: str) -> "Any":
    import pyarrow.parquet as pq

    fs, path = locate(container)
    with fs.open(path, "rb") as file:
        return pq.read_metadata(file)


def _parquet_column(container: str, version: str, column: str, number: int) -> "tuple[pa.ChunkedArray, int]":
    """The column in the row group that holds a row, and the number of its first row."""
    first, footer = 0, _footer(container, version)
    for group in range(footer.num_row_groups):
        num_rows = footer.row_group(group).num_rows
        if first <= number < first + num_rows:
            return _row_group(container, version, column, group), first
        first += num_rows
    raise MediaError(FailureKind.MISSING, f"{public(container)} has no row {number}, but {first} rows")


@lru_cache(maxsize=1)
def _row_group(container: str, version: str, column: str, group: int) -> "pa.ChunkedArray":
    """Kept for the rows after it: they follow one another."""
    import pyarrow.parquet as pq

    fs, path = locate(container)
    with fs.open(path, "rb") as file, pq.ParquetFile(file) as table:
        if column not in table.schema_arrow.names:
            raise MediaError(FailureKind.MISSING, f"{public(container)} has no column {column}")
        return table.read_row_group(group, columns=[column])[column]


def _arrow_column(path: str, version: str, column: str, number: int) -> "pa.ChunkedArray":
    table = _mapped(path, version)
    if column not in table.column_names or not 0 <= number < table.num_rows:
        raise MediaError(FailureKind.MISSING, f"there is no row {number} with a column {column}")
    return table[column]


@lru_cache(maxsize=2)
def _mapped(path: str, version: str) -> "pa.Table":
    """The table; its pages come into memory as they are read."""
    import pyarrow as pa

    with pa.memory_map(path) as source:
        return pa.ipc.open_stream(source).read_all()
