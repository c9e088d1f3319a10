"""Rows in order of a key, table by table. DuckDB sorts what is too much for memory, on disk."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

IN_MEMORY = 400_000
"""Rows that are sorted in memory."""
CHUNK = 100_000
SORT_MEMORY = "384MB"
PLACE = "__place"


def in_order(parts: Iterable[pa.Table], schema: pa.Schema, key: Sequence[str]) -> Iterator[pa.Table]:
    """Tables of about `CHUNK` rows, sorted by key. Rows with one key keep their order, and those with one value of
    its first column are in one table. At least one table comes.

    Args:
        parts: any number of tables.
        schema: theirs.
        key: columns, from the first that decides on.
    """
    parts, held, num_rows = iter(parts), [schema.empty_table()], 0
    for part in parts:
        held.append(part)
        num_rows += part.num_rows
        if num_rows > IN_MEMORY:
            yield from _whole(_sorted_on_disk(chain(held, parts), schema, key), schema, key[0])
            return
    yield pa.concat_tables(held).sort_by([(name, "ascending") for name in key])


def last_of_each(tables: Iterable[pa.Table], key: Sequence[str]) -> Iterator[pa.Table]:
    """Tables as of `in_order`, without the rows that another one with their key follows."""
    for table in tables:
        if table.num_rows > 1:
            same = [pc.equal(table[name][1:], table[name][:-1]) for name in key]
            is_last = np.append(~np.logical_and.reduce([np.asarray(one) for one in same]), True)
            table = table if is_last.all() else table.filter(pa.array(is_last))
        yield table


def cut_up(table: pa.Table) -> Iterator[pa.Table]:
    """A table in tables of `CHUNK` rows, at least one."""
    return (table.slice(start, CHUNK) for start in range(0, max(table.num_rows, 1), CHUNK))


class Follower:
    """Rows of one table that belong to those of another, where both come in order of `name`."""

    def __init__(self, tables: Iterable[pa.Table], name: str = "clip_id") -> None:
        self._tables, self._name = iter(tables), name
        self._left = next(self._tables)

    def until(self, last: str | None) -> pa.Table:
        """The rows that come next, up to those of `last`; None: all that are left."""
        found = []
        while last is None or not self._left.num_rows or self._left[self._name][-1].as_py() <= last:
            found.append(self._left)
            following = next(self._tables, None)
            self._left = self._left.slice(self._left.num_rows) if following is None else following
            if following is None:
                return pa.concat_tables(found)
        count = pc.sum(pc.less_equal(self._left[self._name], last)).as_py() or 0
        found.append(self._left.slice(0, count))
        self._left = self._left.slice(count)
        return pa.concat_tables(found)


def _sorted_on_disk(parts: Iterator[pa.Table], schema: pa.Schema, key: Sequence[str]) -> Iterator[pa.Table]:
    import duckdb

    def numbered() -> Iterator[pa.RecordBatch]:
        place = 0
        for part in parts:
            row = pa.array(np.arange(place, place + part.num_rows))
            place += part.num_rows
            yield from part.append_column(PLACE, row).to_batches()

    with tempfile.TemporaryDirectory(prefix="reelpack-sort-") as folder:
        connection = duckdb.connect(config={"memory_limit": SORT_MEMORY, "temp_directory": folder, "threads": 1})
        stored = pa.RecordBatchReader.from_batches(schema.append(pa.field(PLACE, pa.int64())), numbered())
        order = ", ".join(f'"{name}"' for name in (*key, PLACE))
        reader = connection.from_arrow(stored).order(order).to_arrow_reader(CHUNK)
        try:
            for batch in reader:
                yield pa.table(batch).drop_columns([PLACE]).cast(schema)
        finally:
            connection.close()


def _whole(tables: Iterable[pa.Table], schema: pa.Schema, name: str) -> Iterator[pa.Table]:
    """Rows with one value of a column in one table."""
    held = schema.empty_table()
    for table in tables:
        table = pa.concat_tables([held, table]).combine_chunks()
        if table.num_rows:
            first = pc.index(table[name], table[name][-1]).as_py()
            held = table.slice(first)
            if first:
                yield table.slice(0, first)
    yield held
