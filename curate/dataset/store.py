"""The tables of a dataset: append-only Parquet parts, each published by one rename.

A part is written under a temporary name and renamed: no reader sees half of one, and a kill leaves only a file that
belongs to no table. A rerun reads what is published, subtracts it from what it wants, and computes the rest. No server
is needed: a table is in a local folder or below an fsspec URL.
"""

import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, groupby
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.dataset.ordered import sorted_by
from curate.dataset.table import TableReader, last_by_key, part_number
from curate.storage.publish import publish

ROW_GROUP = 100_000
PART_GROUP = 4_000
"""Rows of a row group of a part, which is sorted: one clip's row is found without reading the others."""
MERGED_BYTES = 8 * 2**20
"""Parts are merged up to this size: a reader that goes through a table part by part holds a few of them."""


class Table(TableReader):
    """A table that this process writes.

    It numbers its parts on from those that it finds at its first `publish`. Of two processes that publish at once,
    neither hides a part of the other, and which of the parts is the later one is left open.
    """

    def __init__(
        self, url: str, schema: pa.Schema, key: Sequence[str], former: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        super().__init__(url, schema, key, former)
        self._last_number: int | None = None

    def publish(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows as one part; all of them or none. No rows, no part."""
        self.publish_table(pa.Table.from_pylist(list(rows), schema=self.schema))

    def publish_table(self, table: pa.Table) -> None:
        """`publish` of rows that are a table of the same columns."""
        table = table.cast(self.schema)
        if table.num_rows:
            if self._last_number is None:
                self._last_number = max(map(part_number, self.part_names()), default=-1)
            self._last_number += 1
            name = f"part-{self._last_number:06d}-{uuid.uuid4().hex[:8]}.parquet"
            write_tables(f"{self.url}/{name}", [sorted_by(table, self.key)], row_group=PART_GROUP)

    def compact(self, max_parts: int = 64) -> None:
        """Merge small parts into larger ones if there are more than `max_parts`. What is read stays the same, also
        where this is killed: a merged part comes after those that it replaces, which are removed when it is there."""
        names = self.part_names()
        if len(names) > max_parts:
            for run in self._runs(names):
                if len(run) > 1:
                    self._merge(run)

    def discard(self, keys: Collection[tuple[Any, ...]]) -> None:
        """Remove the rows with these keys: the parts are written again without them. A kill can leave some of them."""
        gone = set(keys)

        def is_gone(rows: pa.Table) -> pa.Array:
            found = zip(*(rows[name].to_pylist() for name in self.key), strict=True)
            return pa.array([key in gone for key in found], pa.bool_())

        if gone and (names := self.part_names()):
            for run in self._runs(names):  # the oldest first: nothing that was replaced shows again
                self._merge(run, is_gone)

    def erase(self, column: str, values: Collection[str]) -> None:
        """Remove the rows with these values of a column, also those that later parts hide: no part has any then. Parts
        that have none stay as they are. A kill can leave some of them."""
        wanted = pa.array(sorted(values), pa.string())
        names = self.part_names()
        for run in self._runs(names) if names else ():
            if self._has(run, column, wanted):
                self._merge(run, lambda rows: pc.is_in(rows[column], wanted))

    def has(self, column: str, values: Collection[str]) -> bool:
        """Whether a part has a row with one of these values, also one that later parts hide."""
        return self._has(self.part_names(), column, pa.array(sorted(values), pa.string()))

    def _has(self, names: Sequence[str], column: str, values: pa.Array) -> bool:
        parts = self.read_parts(names, [column])
        return any(pc.any(pc.is_in(part[column], values)).as_py() for part in parts)

    def superseded(self) -> list[str]:
        """Parts that a kill left after they were merged: all their keys are in a later merged part, and their removal
        changes nothing."""
        names = self.part_names()
        merged = [name for name in names if "-merged-" in name]
        if not merged:
            return []
        keys = dict(zip(names, map(self._keys, self.read_parts(names, self.key)), strict=True))
        return [
            name
            for position, name in enumerate(names)
            if any(keys[name] <= keys[later] for later in names[position + 1 :] if later in merged)
        ]

    def _keys(self, part: pa.Table) -> set[tuple[Any, ...]]:
        return set(zip(*(part[name].to_pylist() for name in self.key), strict=True))

    def _runs(self, names: Sequence[str]) -> list[list[str]]:
        """Parts that follow each other, of about `MERGED_BYTES` together; those of one number are never apart."""
        sizes = {info["name"].rpartition("/")[2]: info["size"] for info in self._fs.ls(self._path, detail=True)}
        runs: list[list[str]] = []
        num_bytes = 0
        for _, group in groupby(names, key=part_number):
            parts = list(group)
            size = sum(sizes.get(name, 0) for name in parts)  # none: merged into another meanwhile
            if not runs or num_bytes + size > MERGED_BYTES:
                runs.append([])
                num_bytes = 0
            runs[-1] += parts
            num_bytes += size
        return runs

    def _merge(self, names: Sequence[str], is_gone: Callable[[pa.Table], pa.Array] | None = None) -> None:
        # After all parts with its number: they end in hexadecimal digits.
        merged = f"part-{part_number(names[-1]):06d}-merged-{uuid.uuid4().hex[:8]}.parquet"
        # With columns that only another reelpack knows.
        rows = last_by_key(pa.concat_tables(self.read_parts(names), promote_options="default"), self.key)
        if is_gone is not None:
            rows = rows.filter(pc.invert(is_gone(rows)))
        write_tables(f"{self.url}/{merged}", [rows], row_group=PART_GROUP)
        for name in names:
            with suppress(FileNotFoundError):  # another one compacts, too
                self._fs.rm_file(f"{self._path}/{name}")


def write_parquet(url: str, table: pa.Table) -> None:
    """Publish one Parquet file; equal rows give equal bytes."""
    write_tables(url, [table])


def write_tables(
    url: str, tables: Iterable[pa.Table], metadata: Mapping[bytes, bytes] | None = None, row_group: int | None = None
) -> int:
    """Publish the rows of tables that come one after the other, at least one, as a Parquet file; equal rows give equal
    bytes. Where an iterator raises, nothing is published.

    Args:
        url: of the file.
        tables: of one schema.
        metadata: of the file, beside that of the schema.
        row_group: rows of a row group; None: `ROW_GROUP`.

    Returns:
        The number of rows.
    """
    groups, num_rows = _row_groups(tables), 0
    first = next(groups)
    schema = first.schema.with_metadata({**(first.schema.metadata or {}), **(metadata or {})} or None)
    words = [field.name for field in schema if not pa.types.is_floating(field.type)]
    with publish(url) as file, pq.ParquetWriter(file, schema, use_dictionary=words) as writer:
        for group in chain([first], groups):
            writer.write_table(group.replace_schema_metadata(schema.metadata), row_group or ROW_GROUP)
            num_rows += group.num_rows
    return num_rows


def _row_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The rows in tables of `ROW_GROUP` of them, the last of fewer."""
    left: pa.Table | None = None
    for table in tables:
        left = table if left is None else pa.concat_tables([left, table])
        while left.num_rows > ROW_GROUP:
            yield left.slice(0, ROW_GROUP)
            left = left.slice(ROW_GROUP)
    assert left is not None, "at least one table comes"
    yield left
