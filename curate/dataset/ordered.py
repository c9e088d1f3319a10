"""Rows in order of a key, table by table. What is too much for memory is sorted in runs on disk, which are merged."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain, groupby, pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

IN_MEMORY = 200_000
"""Rows that are sorted in memory."""
RUN_BYTES = 32 * 2**20
"""Of the rows that are sorted in memory, where they are many bytes each."""
CHUNK = 100_000
RUN, MANY = 5_000, 64
"""Rows of a part that is a run of its own, and how many are."""
PIECES, PIECE_BYTES = 128, 128 * 2**10
"""Pieces that a run is read in, and bytes of one where that is more: of each run one piece is in memory."""
MOST = 64
"""Runs of which more than a piece can be in memory."""
MAX_WIDTH = 64
"""Bytes of texts of one length that are compared as numbers."""


def in_order(parts: Iterable[pa.Table], schema: pa.Schema, key: Sequence[str]) -> Iterator[pa.Table]:
    """Tables of about `CHUNK` rows, sorted by key. Rows with one key keep their order, and those with one value of
    its first column are in one table. At least one table comes.

    Args:
        parts: any number of tables.
        schema: theirs.
        key: columns, from the first that decides on; without nulls.
    """
    with ExitStack() as files:
        held, runs, num_rows, num_bytes = [schema.empty_table()], None, 0, 0
        for part in parts:
            held.append(part)
            num_rows, num_bytes = num_rows + part.num_rows, num_bytes + part.nbytes
            if num_rows > IN_MEMORY or num_bytes > RUN_BYTES:
                runs = runs or _Runs(schema, files)
                runs.write(held, key)
                held, num_rows, num_bytes = [schema.empty_table()], 0, 0
        if runs is None:
            yield from _whole(cut_up(sorted_by(pa.concat_tables(held), key)), schema, key[0])
            return
        runs.write(held, key)
        del held
        yield from _merged(runs.read(), key)


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

    @property
    def reach(self) -> str | None:
        """The last value that is in memory; None where no row is left."""
        while not self._left.num_rows and (following := next(self._tables, None)) is not None:
            self._left = following
        return self._left[self._name][-1].as_py() if self._left.num_rows else None

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


def sorted_by(table: pa.Table, key: Sequence[str]) -> pa.Table:
    """The rows in order of key; those with one key keep their order. Texts are compared as numbers of 8 bytes, which
    takes a tenth of the time that Arrow takes."""
    if any(table[name].null_count for name in key):
        return table.sort_by([(name, "ascending") for name in key])
    table, found = table.combine_chunks(), chain.from_iterable(_codes(table[name]) for name in key)
    first = next(found)
    if (first[1:] > first[:-1]).all():
        return table
    codes = [first, *found]
    after, equal = np.zeros(len(first) - 1, bool), np.ones(len(first) - 1, bool)
    for code in codes:
        after |= equal & (code[1:] > code[:-1])
        equal &= code[1:] == code[:-1]
        if not (after | equal).all():
            return table.take(pa.array(_order(codes)))
    return table


def _order(codes: Sequence[np.ndarray]) -> np.ndarray:
    """(n,) rows in order of the first code, then of the second, and so on: as `np.lexsort`, which sorts by all."""
    order = np.argsort(codes[0], kind="stable")
    first = codes[0][order]
    tied = np.flatnonzero(first[1:] == first[:-1])
    if len(tied) and len(codes) > 1:
        is_tied = np.zeros(len(first), bool)
        is_tied[tied] = is_tied[tied + 1] = True
        places = np.flatnonzero(is_tied)
        rows = order[places]
        order[places] = rows[np.lexsort([code[rows] for code in reversed(codes)])]
    return order


def _codes(values: pa.ChunkedArray) -> Iterator[np.ndarray]:
    """Numbers (n,) in the order of the values, the first that decides first."""
    if not pa.types.is_string(values.type):
        yield values.to_numpy()
        return
    texts = values.cast(pa.large_binary()).combine_chunks()
    lengths = pc.binary_length(texts).to_numpy()
    width = int(lengths[0]) if len(lengths) else 0
    if 0 < width <= MAX_WIDTH and (lengths == width).all():
        begin = int(np.frombuffer(texts.buffers()[1], np.int64)[texts.offset])
        letters = np.frombuffer(texts.buffers()[2], np.uint8)[begin : begin + width * len(texts)]
        padded = np.zeros((len(texts), -(-width // 8) * 8), np.uint8)
        padded[:, :width] = letters.reshape(len(texts), width)
        yield from (code.astype(np.uint64) for code in padded.view(">u8").T)
        return
    numbered = texts.dictionary_encode()
    order = pc.sort_indices(numbered.dictionary).to_numpy()
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    yield ranks[numbered.indices.to_numpy()]


class _Runs:
    """Sorted tables in one file.

    Args:
        schema: theirs.
        files: closes the file, and removes it.
    """

    def __init__(self, schema: pa.Schema, files: ExitStack) -> None:
        self._files, self._schema, self._ends = files, schema, [0]
        self._path = f"{files.enter_context(tempfile.TemporaryDirectory(prefix='reelpack-sort-'))}/runs.arrow"
        self._writer = pa.ipc.new_file(files.enter_context(pa.OSFile(self._path, "wb")), schema)

    def write(self, parts: Sequence[pa.Table], key: Sequence[str]) -> None:
        """Parts that are sorted already, as those of a table are, need no sort before they are merged."""
        is_few = len(self._ends) <= MANY
        for is_run, some in groupby(parts, key=lambda part: is_few and part.num_rows >= RUN):
            for run in some if is_run else [pa.concat_tables(some)]:
                num_pieces = min(PIECES, run.nbytes // PIECE_BYTES + 1)
                batches = sorted_by(run, key).to_batches(max(run.num_rows // num_pieces, 1))
                for batch in batches:
                    self._writer.write_batch(batch)
                if batches:
                    self._ends.append(self._ends[-1] + len(batches))

    def read(self) -> list[Iterator[pa.Table]]:
        """Each run in tables, after all are written."""
        self._writer.close()
        file = pa.ipc.open_file(self._files.enter_context(pa.OSFile(self._path, "rb")))
        return [self._batches(file, *run) for run in pairwise(self._ends)]

    def _batches(self, file: pa.RecordBatchFileReader, begin: int, end: int) -> Iterator[pa.Table]:
        return (pa.Table.from_batches([file.get_batch(number)], self._schema) for number in range(begin, end))


def _merged(runs: Sequence[Iterator[pa.Table]], key: Sequence[str]) -> Iterator[pa.Table]:
    """The rows of sorted tables in one order; those with one value of the key's first column are in one table."""
    followers, held = [Follower(run, key[0]) for run in runs], list[pa.Table]()
    while reached := sorted(reach for follower in followers if (reach := follower.reach) is not None):
        # Pieces of runs end at nearly the same values: up to the first end there is little.
        bound = reached[min(len(reached) // 2, MOST)]
        held.append(sorted_by(pa.concat_tables(follower.until(bound) for follower in followers), key))
        if sum(table.num_rows for table in held) >= CHUNK:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)


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
