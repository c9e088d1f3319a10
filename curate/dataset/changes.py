"""What a new decision changes, found while it is written: row by row beside the last one, which has the same order."""

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from math import fsum

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from curate.dataset.ordered import in_order
from curate.dataset.schemas import DECISIONS
from curate.dataset.table import tables_of

READ = ["clip_id", "decision", "reasons", "duration_s"]
CHANGED = DECISIONS.remove(DECISIONS.get_field_index("number"))


class Changes:
    """Rows of `clips.parquet` that differ from those of the last version.

    Args:
        before: `clips.parquet` as the last version decided it; None: it is not known.

    Attributes:
        is_known: Whether all changes are found. They are not where a clip came in, left or moved.
        num: How many there are.
        counts: Decision → clips, of the new rows.
        kept_s: Seconds of the kept clips.
    """

    def __init__(self, before: ds.Dataset | None) -> None:
        self.is_known, self.num, self.counts, self.kept_s = False, 0, Counter[str](), 0.0
        self._is_aligned = before is not None
        self._folder = tempfile.TemporaryDirectory(prefix="reelpack-changes-")
        self._before = None if before is None or not before.count_rows() else _Rows(tables_of(before, READ))

    def watched(self, decided: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """The new rows, as they come."""
        with pa.OSFile(self._path, "wb") as file, pa.ipc.new_file(file, CHANGED) as writer:
            for table in decided:
                changed = self._changed(table.select(READ))
                self.num += changed.num_rows
                writer.write_table(changed)
                yield table
        self.is_known = self._is_aligned and (self._before is None or not self._before.next(1).num_rows)

    def tables(self, number: int) -> Iterator[pa.Table]:
        """Rows of tables/decisions, as a version of this number, in order of id."""
        with pa.OSFile(self._path, "rb") as file:
            reader = pa.ipc.open_file(file)
            parts = (pa.Table.from_batches([reader.get_batch(at)]) for at in range(reader.num_record_batches))
            for table in in_order(parts, CHANGED, ["clip_id"]):
                numbers = pa.array(np.full(table.num_rows, number))
                yield table.append_column("number", numbers).select(DECISIONS.names)

    @property
    def _path(self) -> str:
        return f"{self._folder.name}/changes.arrow"

    def _changed(self, rows: pa.Table) -> pa.Table:
        rows = rows.set_column(2, "reasons", pc.binary_join(rows["reasons"], ","))
        self.counts.update({row["values"]: row["counts"] for row in pc.value_counts(rows["decision"]).to_pylist()})
        kept = rows["duration_s"].filter(pc.equal(rows["decision"], "keep")).drop_null()
        self.kept_s = fsum([self.kept_s, *kept.to_numpy()])
        if self._before is not None and self._is_aligned:
            before = self._before.next(rows.num_rows)
            self._is_aligned = before["clip_id"].equals(rows["clip_id"])
            if self._is_aligned:
                reasons = pc.binary_join(before["reasons"], ",")
                is_other = pc.or_(
                    pc.not_equal(before["decision"], rows["decision"]), pc.not_equal(reasons, rows["reasons"])
                )
                rows = rows.filter(pc.fill_null(is_other, True))
        return rows.cast(CHANGED) if self._is_aligned else CHANGED.empty_table()


class _Rows:
    """Rows of tables, as many at a time as are asked for."""

    def __init__(self, tables: Iterator[pa.Table]) -> None:
        self._tables, self._left = tables, next(tables)

    def next(self, count: int) -> pa.Table:
        """The next rows, fewer at the end."""
        while self._left.num_rows < count and (following := next(self._tables, None)) is not None:
            self._left = pa.concat_tables([self._left, following])
        found, self._left = self._left.slice(0, count), self._left.slice(count)
        return found
