"""The tables of a dataset: append-only Parquet parts, each published by one rename.

A table is a folder of parts. A part is written under a temporary name and renamed: nobody ever reads half of one, and
a kill leaves nothing but a file that no table holds. A rerun reads what is published, subtracts it from what it
wants, and computes the rest; where a key stands twice (a retry), the later part wins. No server: local paths and
fsspec URLs alike.
"""

import io
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.schema import SCHEMA_VERSION
from curate.storage.place import locate
from curate.storage.publish import publish

VERSION_KEY = b"reelpack_schema_version"
NUM_READERS = 16
"""Parts that are read at the same time: on an object store each of them is one request that waits."""
MAX_LISTS = 10
MERGED_BYTES = 8 * 2**20
"""Parts are merged up to this size: who goes through a table part by part holds a few of them, however long it is."""


class Table:
    """One table: rows of `schema`, unique by the columns `key`.

    Parts are named `part-<number>-<anything>.parquet` and are in order of number, then of name. A table object numbers
    its own on from those it found at its first `publish`; of two that publish at once, neither hides a part of the
    other, and which of them is the later one is left open.

    Args:
        url: folder of the parts, a local path or an fsspec URL; it need not exist yet.
        schema: Arrow schema of every part.
        key: names of the columns that identify a row.
    """

    def __init__(self, url: str, schema: pa.Schema, key: Sequence[str]) -> None:
        self.url = url.rstrip("/")
        self.schema = schema.with_metadata({VERSION_KEY: str(SCHEMA_VERSION).encode()})
        self.key = tuple(key)
        self._fs, self._path = locate(self.url)
        self._last_number: int | None = None

    def publish(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows as one part; all of them or none. No rows, no part."""
        table = pa.Table.from_pylist(list(rows), schema=self.schema)
        if table.num_rows:
            if self._last_number is None:
                self._last_number = max(map(_number, self.part_names()), default=-1)
            self._last_number += 1
            write_parquet(f"{self.url}/part-{self._last_number:06d}-{uuid.uuid4().hex[:8]}.parquet", table)

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows, or `columns` of them beside the key, one per key (the last part that holds a key wins), sorted by
        key; empty if nothing is there. A column that a part lacks is null in its rows: an earlier reelpack wrote them.

        Raises:
            ValueError: a part that another version of the schema wrote, or that cannot be read.
        """
        return self._last_by_key(pa.concat_tables([self._schema_of(columns).empty_table(), *self.parts(columns)]))

    def parts(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """What `read` reads, part by part, `NUM_READERS` of them in memory at a time: of rows with one key the last
        counts. The parts begin again where some were merged meanwhile."""
        schema = self._schema_of(columns)
        stored = self._read_parts(self.part_names(), None if columns is None else schema.names)
        return (_of_schema(part, schema) for part in stored)

    def _schema_of(self, columns: Sequence[str] | None) -> pa.Schema:
        names = self.schema.names if columns is None else [n for n in self.schema.names if n in {*self.key, *columns}]
        return pa.schema([self.schema.field(name) for name in names], self.schema.metadata)

    def ids(self) -> set[Any]:
        """The values of a key of one column; reads nothing else."""
        (name,) = self.key
        return set(self.read([])[name].to_pylist())

    def rows(self) -> list[dict[str, Any]]:
        return self.read().to_pylist()

    def compact(self, max_parts: int = 64) -> None:
        """Merge small parts into larger ones if there are more than `max_parts`. What is read stays the same, also
        where this is killed: a merged part comes after those that it replaces, which are removed when it is there."""
        names = self.part_names()
        if len(names) > max_parts:
            for run in self._runs(names):
                if len(run) > 1:
                    self._merge(run)

    def discard(self, keys: Collection[tuple[Any, ...]]) -> None:
        """Take the rows with these keys out, for good: the parts are written again without them. Where this is killed,
        they may still be there."""
        if keys and (names := self.part_names()):
            for run in self._runs(names):  # the oldest first: nothing that was replaced shows again
                self._merge(run, without=set(keys))

    def superseded(self) -> list[str]:
        """Parts that a kill left beside the one that they were merged into: all their keys are in a later merged part,
        and nothing changes when they go."""
        names = self.part_names()
        merged = [name for name in names if "-merged-" in name]
        if not merged:
            return []
        keys = dict(zip(names, map(self._keys, self._read_parts(names, self.key)), strict=True))
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
        for _, group in groupby(names, key=_number):
            parts = list(group)
            size = sum(sizes.get(name, 0) for name in parts)  # none: merged into another meanwhile
            if not runs or num_bytes + size > MERGED_BYTES:
                runs.append([])
                num_bytes = 0
            runs[-1] += parts
            num_bytes += size
        return runs

    def _merge(self, names: Sequence[str], without: Collection[tuple[Any, ...]] = ()) -> None:
        # After all parts with its number: they end in hexadecimal digits.
        merged = f"part-{_number(names[-1]):06d}-merged-{uuid.uuid4().hex[:8]}.parquet"
        # With columns that only another reelpack knows.
        rows = self._last_by_key(pa.concat_tables(self._read_parts(names), promote_options="default"))
        if without:
            keys = zip(*(rows[name].to_pylist() for name in self.key), strict=True)
            rows = rows.filter(pa.array([key not in without for key in keys], pa.bool_()))
        write_parquet(f"{self.url}/{merged}", rows)
        for name in names:
            with suppress(FileNotFoundError):  # another one compacts, too
                self._fs.rm_file(f"{self._path}/{name}")

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
        return sorted(parts, key=lambda name: (_number(name), name))

    def _read_parts(self, names: Sequence[str], columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Parts as they are stored, in order; of `columns`, those that they have."""
        num_lists = 0
        while names:
            try:
                with ThreadPoolExecutor(NUM_READERS) as readers:
                    parts = list(readers.map(lambda name: self._read_part(name, columns), names[:NUM_READERS]))
            except FileNotFoundError:  # merged into another meanwhile
                if num_lists == MAX_LISTS:
                    raise
                names, num_lists = self.part_names(), num_lists + 1
                continue
            names = names[NUM_READERS:]
            while parts:
                yield parts.pop(0)

    def _read_part(self, name: str, columns: Sequence[str] | None) -> pa.Table:
        path = f"{self._path}/{name}"
        # All of it in one request; of some columns their bytes only.
        source = io.BytesIO(self._fs.cat_file(path)) if columns is None else self._fs.open(path, "rb")
        try:
            with source, pq.ParquetFile(source) as file:
                # An earlier reelpack may have written fewer.
                table = file.read(None if columns is None else [n for n in file.schema_arrow.names if n in columns])
        except pa.ArrowInvalid as error:
            raise ValueError(f"{path} is not a readable Parquet file ({error}); remove it and run again") from error
        version = (table.schema.metadata or {}).get(VERSION_KEY, b"none").decode()
        if version != str(SCHEMA_VERSION):
            raise ValueError(
                f"{path}: got schema version {version}, expected {SCHEMA_VERSION}; "
                "use the reelpack version that wrote it, or curate into a new directory"
            )
        return table

    def _last_by_key(self, table: pa.Table) -> pa.Table:
        numbered = table.select(self.key).append_column("row", pa.array(np.arange(table.num_rows)))
        last = numbered.group_by(self.key).aggregate([("row", "max")])
        last = last.sort_by([(name, "ascending") for name in self.key])
        return table.take(last["row_max"])


def _of_schema(part: pa.Table, schema: pa.Schema) -> pa.Table:
    for field in schema:
        if field.name not in part.column_names:
            part = part.append_column(field, pa.nulls(part.num_rows, field.type))
    return part.select(schema.names).cast(schema)


def _number(name: str) -> int:
    """The number in the name of a part."""
    return int(name.split("-")[1])


def write_parquet(url: str, table: pa.Table) -> None:
    """Publish one Parquet file; equal rows give equal bytes."""
    with publish(url) as file:
        pq.write_table(table, file)
