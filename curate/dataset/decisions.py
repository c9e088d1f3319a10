"""Decisions of several versions side by side: what changed, and what one keeps and another does not.

DuckDB compares them, on disk where they are too many for its memory.
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.dataset as ds

from curate.dataset.dataset import Dataset
from curate.storage.place import locate

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MEMORY = "512MB"
"""Of DuckDB; more is on disk."""
ROWS = 1_000_000
"""Of a table of changes."""
Side = Literal["a", "b"]
"""Of a comparison: a table of `clip_id`, `decision`, `reasons` (by commas) and `duration_s`."""
UNLIKE = """from b full join a on b.clip_id = a.clip_id
    where b.decision is distinct from a.decision or b.reasons is distinct from a.reasons"""
KEPT_BY_ONE = """from {one} one left join {other} other on one.clip_id = other.clip_id
    where one.decision = 'keep' and other.decision is distinct from 'keep'"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Move:
    """Clips that one side keeps and the other does not: `why` the other does not, how many, and their seconds."""

    why: str
    num_clips: int
    seconds: float


class Comparison:
    """Two sides, each filled by one of its methods."""

    def __init__(self, connection: "DuckDBPyConnection", dataset: Dataset) -> None:
        self._connection = connection
        self._dataset = dataset

    def load_clips(self, side: Side) -> None:
        """What `clips.parquet` says."""
        fs, path = locate(self._dataset.layout.clips)
        stored = ds.dataset(path, filesystem=fs, format="parquet")
        reader = stored.scanner(["clip_id", "decision", "reasons", "duration_s"]).to_reader()
        self._load(side, reader, "select clip_id, decision, array_to_string(reasons, ','), duration_s from given")

    def load_state(self, side: Side, numbers: Iterable[int]) -> None:
        """What tables/decisions says after versions of these numbers: of each clip the last one."""
        table = self._dataset.decisions
        batches = (batch for part in table.parts() for batch in part.to_batches())
        reader = pa.RecordBatchReader.from_batches(table.schema, batches)
        counted = ", ".join(map(str, numbers)) or "null"
        last = "arg_max({d: decision, r: reasons, s: duration_s}, number)"
        self._load(
            side,
            reader,
            f"""select clip_id, last.d, last.r, last.s from (
                select clip_id, {last} as last from given where number in ({counted}) group by clip_id)
            where last.d is not null""",
        )

    def _load(self, side: Side, reader: pa.RecordBatchReader, query: str) -> None:
        self._connection.register("given", reader)
        columns = "clip_id text, decision text, reasons text, duration_s double"
        self._connection.execute(f"create temp table {side}({columns})")
        self._connection.execute(f"insert into {side} {query}")
        self._connection.unregister("given")

    def state(self, side: Side) -> pa.Table:
        """`clip_id`, `decision`, `reasons`, `duration_s`, by id."""
        return self._connection.sql(
            f"""select clip_id, decision, duration_s,
                case when reasons = '' then []::text[] else string_split(reasons, ',') end as reasons
            from {side} order by clip_id"""
        ).to_arrow_table()

    @property
    def counts(self) -> Mapping[str, int]:
        """Decision → clips, of `b`."""
        rows = self._connection.execute("select decision, count(*) from b group by decision").fetchall()
        return dict(rows)

    @property
    def kept_s(self) -> float:
        """Seconds of the clips that `b` keeps."""
        return self._number("select coalesce(sum(duration_s), 0) from b where decision = 'keep'")

    @property
    def num(self) -> int:
        """Clips that the two sides decide differently."""
        return int(self._number(f"select count(*) {UNLIKE}"))

    def tables(self, number: int) -> Iterator[pa.Table]:
        """Rows of tables/decisions that make `b` out of `a`, as a version of this number."""
        rows = self._connection.sql(
            f"""select coalesce(b.clip_id, a.clip_id) as clip_id, {number}::bigint as number, b.decision, b.reasons,
                b.duration_s {UNLIKE} order by 1"""
        )
        for batch in rows.to_arrow_reader(ROWS):
            yield pa.Table.from_batches([batch])

    def moves(self, one: Side, other: Side) -> tuple[Move, ...]:
        """Clips that `one` keeps and `other` does not, by the first reason of `other`; the most first."""
        rows = self._connection.execute(
            f"""select case when other.decision is null then 'not there' when other.decision = 'reject'
                then split_part(other.reasons, ',', 1) else other.decision end as why,
                count(*) as num, coalesce(sum(one.duration_s), 0)
            {KEPT_BY_ONE.format(one=one, other=other)} group by why order by num desc, why"""
        ).fetchall()
        return tuple(Move(why=why, num_clips=num, seconds=seconds) for why, num, seconds in rows)

    def moved(self, one: Side, other: Side) -> tuple[str, ...]:
        """Their ids."""
        query = f"select one.clip_id {KEPT_BY_ONE.format(one=one, other=other)} order by 1"
        return tuple(row[0] for row in self._connection.execute(query).fetchall())

    def _number(self, query: str) -> float:
        ((number,),) = self._connection.execute(query).fetchall()
        return float(number)


@contextmanager
def comparison(dataset: Dataset) -> Iterator[Comparison]:
    """Compare decisions of a dataset."""
    import duckdb

    with tempfile.TemporaryDirectory(prefix="reelpack-decisions-") as folder:
        rules = {"memory_limit": MEMORY, "temp_directory": folder, "python_enable_replacements": "false"}
        connection = duckdb.connect(config={**rules, "threads": 1})
        try:
            yield Comparison(connection, dataset)
        finally:
            connection.close()
