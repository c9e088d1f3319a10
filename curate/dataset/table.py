"""The tables of a dataset as they are read: folders of Parquet parts; where a key is in two, the later one counts."""

import io
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.dataset import ordered
from curate.dataset.ordered import in_order, last_of_each
from curate.errors import OtherVersion
from curate.schema import SCHEMA_VERSION
from curate.storage.place import locate

if TYPE_CHECKING:
    import pyarrow.dataset as ds  # loads pandas

VERSION_KEY = b"reelpack_schema_version"
NUM_READERS = 16
"""Parts that are read at the same time: on an object store each of them is one request that waits."""
MAX_LISTS = 10


class TableReader:
    """One table: rows of `schema`, unique by the columns `key`.

    Parts are named `part-<number>-<anything>.parquet` and are in order of number, then of name. Nobody writes a part
    twice, and compaction can replace parts while they are read.

    Args:
        url: folder of the parts, a local path or an fsspec URL; it need not exist.
        schema: Arrow schema of every part.
        key: names of the columns that identify a row.
        former: column → its name in parts of an earlier reelpack.
    """

    def __init__(
        self, url: str, schema: pa.Schema, key: Sequence[str], former: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.url = url.rstrip("/")
        self.schema = schema.with_metadata({VERSION_KEY: str(SCHEMA_VERSION).encode()})
        self.key = tuple(key)
        self.former = former
        self._fs, self._path = locate(self.url)

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows, one per key: the last part that holds a key wins. Sorted by key; empty if nothing is there.

        A column that a part lacks is null in its rows, and 0 where it cannot be null: an earlier reelpack wrote them.

        Args:
            columns: those to read with the key; None: all.

        Raises:
            OtherVersion: a part is of another version of the schema.
            ValueError: a part cannot be read.
        """
        return last_by_key(pa.concat_tables([self._schema_of(columns).empty_table(), *self.parts(columns)]), self.key)

    def parts(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """What `read` reads, part by part, `NUM_READERS` of them in memory at a time: of rows with one key the last
        counts. The parts begin again where some were merged meanwhile."""
        schema = self._schema_of(columns)
        stored = self.read_parts(self.part_names(), None if columns is None else schema.names)
        return (_of_schema(part, schema) for part in stored)

    def between(self, low: str, high: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of `read` whose key's first column is at least `low` and below `high`. Parts are sorted, so that of
        each little more than these rows is read."""
        schema = self._schema_of(columns)
        parts = self.read_parts(self.part_names(), schema.names, (low, high))
        return last_by_key(
            pa.concat_tables([schema.empty_table(), *(_of_schema(part, schema) for part in parts)]), self.key
        )

    def of(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of `read` with this value in the key's first column."""
        return self.between(name, f"{name}\0", columns)

    def in_order(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """What `read` reads, sorted by key, in tables that fit into memory; all rows with one value of the key's first
        column are in one of them. At least one table comes."""
        return last_of_each(in_order(self.parts(columns), self._schema_of(columns), self.key), self.key)

    def _schema_of(self, columns: Sequence[str] | None) -> pa.Schema:
        names = self.schema.names if columns is None else [n for n in self.schema.names if n in {*self.key, *columns}]
        return pa.schema([self.schema.field(name) for name in names], self.schema.metadata)

    def ids(self) -> set[Any]:
        """The values of a key of one column; reads nothing else."""
        (name,) = self.key
        return set(self.read([])[name].to_pylist())

    def rows(self) -> list[dict[str, Any]]:
        return self.read().to_pylist()

    def stored_schema(self) -> pa.Schema:
        """The columns of the first part, as they are stored; none where there is no part."""
        names = self.part_names()
        return pq.read_schema(f"{self._path}/{names[0]}", filesystem=self._fs) if names else pa.schema([])

    def part_names(self) -> list[str]:
        """Names of the parts, in order: no part is ever written twice, so equal names mean equal rows."""
        self._fs.invalidate_cache(self._path)
        try:
            names = [entry.rpartition("/")[2] for entry in self._fs.ls(self._path, detail=False)]
        except FileNotFoundError:
            return []
        parts = [name for name in names if name.startswith("part-") and name.endswith(".parquet")]
        return sorted(parts, key=lambda name: (part_number(name), name))

    def read_parts(
        self, names: Sequence[str], columns: Sequence[str] | None = None, between: tuple[str, str] | None = None
    ) -> Iterator[pa.Table]:
        """Parts as they are stored, in order; of `columns`, those that they have; `between`: some of the rows."""
        num_lists = 0
        while names:
            try:
                with ThreadPoolExecutor(NUM_READERS) as readers:
                    read = partial(self._read_part, columns=columns, between=between)
                    parts = list(readers.map(read, names[:NUM_READERS]))
            except FileNotFoundError:  # merged into another meanwhile
                if num_lists == MAX_LISTS:
                    raise
                names, num_lists = self.part_names(), num_lists + 1
                continue
            names = names[NUM_READERS:]
            while parts:
                yield parts.pop(0)

    def _read_part(self, name: str, columns: Sequence[str] | None, between: tuple[str, str] | None = None) -> pa.Table:
        path = f"{self._path}/{name}"
        # All of it in one request; of some columns their bytes only.
        source = io.BytesIO(self._fs.cat_file(path)) if columns is None else self._fs.open(path, "rb")
        try:
            with source, pq.ParquetFile(source) as file:
                # An earlier reelpack may have written fewer.
                stored, former = file.schema_arrow.names, {old: new for new, old in self.former.items()}
                names = None if columns is None else [n for n in stored if former.get(n, n) in columns]
                table = file.read(names) if between is None else rows_between(file, self.key[0], *between, names)
        except pa.ArrowInvalid as error:
            raise ValueError(f"{path} is not a readable Parquet file ({error}); remove it and run again") from error
        version = (table.schema.metadata or {}).get(VERSION_KEY, b"none").decode()
        if version != str(SCHEMA_VERSION):
            is_newer = version.isdecimal() and int(version) > SCHEMA_VERSION
            newer = "a newer reelpack wrote it: `pip install -U reelpack`"
            raise OtherVersion(
                f"{path}: got schema version {version}, expected {SCHEMA_VERSION}; "
                f"{newer if is_newer else 'use the reelpack that wrote it'}, or curate into a new directory"
            )
        names = [former.get(name, name) for name in table.column_names]
        return table.rename_columns(names).replace_schema_metadata(table.schema.metadata)


def _of_schema(part: pa.Table, schema: pa.Schema) -> pa.Table:
    for field in schema:
        if field.name not in part.column_names:
            nulls = pa.nulls(part.num_rows, field.type)
            part = part.append_column(field, nulls if field.nullable else pc.fill_null(nulls, 0))
    return part.select(schema.names).cast(schema)


def part_number(name: str) -> int:
    """The number in the name of a part."""
    return int(name.split("-")[1])


def last_by_key(table: pa.Table, key: Sequence[str]) -> pa.Table:
    """The last row of each key, sorted by key."""
    numbered = table.select(key).append_column("row", pa.array(np.arange(table.num_rows)))
    last = numbered.group_by(key).aggregate([("row", "max")])
    last = last.sort_by([(name, "ascending") for name in key])
    return table.take(last["row_max"])


def left_join(table: pa.Table, other: pa.Table, key: str) -> pa.Table:
    """Add the columns of `other` by a key that is unique there, null where it has none; the order of rows stays.
    pyarrow's join takes four times as long and three times the memory."""
    is_equal = other.num_rows == table.num_rows and other[key].equals(table[key])  # as where all clips have a score
    rows = None if is_equal else pc.index_in(table[key], value_set=other[key].cast(table[key].type).combine_chunks())
    for name in other.column_names:
        if name != key:
            table = table.append_column(name, other[name] if rows is None else other[name].take(rows))
    return table


def read_parquet(url: str, columns: Sequence[str] | None = None) -> pa.Table | None:
    """A Parquet file, or some of its columns; None where it is not there."""
    fs, path = locate(url)
    return pq.read_table(path, filesystem=fs, columns=columns) if fs.exists(path) else None


def rows_between(
    file: pq.ParquetFile, name: str, low: str, high: str, columns: Sequence[str] | None = None
) -> pa.Table:
    """Rows of a Parquet file whose text in a column, one of `columns`, is at least `low` and below `high`. Row groups
    without such a row are not read."""
    place = file.metadata.schema.names.index(name)
    groups = []
    for number in range(file.num_row_groups):
        known = file.metadata.row_group(number).column(place).statistics
        if known is None or not known.has_min_max or (known.min < high and known.max >= low):
            groups.append(number)
    table = file.read_row_groups(groups, columns)
    return table.filter(pc.and_(pc.greater_equal(table[name], low), pc.less(table[name], high)))


def rows_with(url: str, name: str, value: str) -> pa.Table | None:
    """Rows of a Parquet file that have a value in a column; None where it is not there. Of row groups that can have it
    the column is read, and what else there is of those that do."""
    fs, path = locate(url)
    if not fs.exists(path):
        return None
    with fs.open(path, "rb") as source, pq.ParquetFile(source) as file:
        found = [file.schema_arrow.empty_table()]
        leaf = file.metadata.schema.names.index(name)
        for number in range(file.num_row_groups):
            known = file.metadata.row_group(number).column(leaf).statistics
            if known is not None and known.has_min_max and not known.min <= value <= known.max:
                continue
            is_found = pc.fill_null(pc.equal(file.read_row_group(number, [name])[name], value), False)
            if pc.any(is_found).as_py():
                found.append(file.read_row_group(number).filter(is_found))
        return pa.concat_tables(found)


def open_parquet(url: str) -> "ds.Dataset | None":
    """A Parquet file that is read table by table; None where it is not there."""
    import pyarrow.dataset as ds

    fs, path = locate(url)
    return ds.dataset(path, filesystem=fs, format="parquet") if fs.exists(path) else None


def tables_of(rows: "ds.Dataset", columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The rows in their order; at least one table comes. Row groups are read when their turn comes: a scanner reads
    up to a gigabyte ahead of who takes long."""
    names = rows.schema.names if columns is None else list(columns)
    schema, is_empty = pa.schema([rows.schema.field(name) for name in names], rows.schema.metadata), True
    for fragment in rows.get_fragments():
        is_parquet = getattr(fragment, "row_groups", None) is not None
        for group in fragment.split_by_row_group() if is_parquet else [fragment]:
            for batch in group.to_batches(schema=rows.schema, columns=names, batch_size=ordered.CHUNK):
                if batch.num_rows:
                    is_empty = False
                    yield pa.Table.from_batches([batch]).replace_schema_metadata(schema.metadata)
    if is_empty:
        yield schema.empty_table()
