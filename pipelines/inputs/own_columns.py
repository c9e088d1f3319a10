"""The user's own columns, as they come with the inputs: gathered by URI, each of one type.

Values of several types become text, and so does what is no plain value, as JSON. A column that would hide one of the
dataset's is called `own_NAME`.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.columns import COLUMNS
from curate.dataset.schemas import CLIPS, INDEX, PUBLIC_COLUMNS
from curate.dataset.table import left_join
from pipelines.inputs.sample import TEXT

TAKEN = frozenset({*CLIPS.names, *INDEX.names, *PUBLIC_COLUMNS, *COLUMNS, "uri"})
"""Names of the dataset's own columns."""
CHUNK = 10_000
"""Rows that wait to become Arrow's."""
MAX_COLUMNS = 256
"""Names that vary from sample to sample are values, and make no table."""
UNNAMED = "unnamed"
"""A column without a name, such as the numbers of the rows that pandas writes."""
ARROW = {int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
INT64 = range(-(2**63), 2**63)


class OwnColumns:
    """Collects rows; `table` gives them."""

    def __init__(self) -> None:
        self.num_texts = 0
        self.renamed: dict[str, str] = {}
        self.left_out: set[str] = set()
        self._names: set[str] = set()
        self._rows: list[dict[str, Any]] = []
        self._chunks: list[pa.Table] = []

    def add(self, uri: str, text: str | None, columns: Mapping[str, Any]) -> None:
        row: dict[str, Any] = {"uri": uri}
        if text is not None:
            row[TEXT] = text
            self._names.add(TEXT)
            self.num_texts += 1
        for name, value in columns.items():
            if value is not None and (known := self._name(name, has_text=text is not None)):
                row[known] = _plain(value)
        self._rows.append(row)
        if len(self._rows) >= CHUNK:
            self._flush()

    def table(self) -> pa.Table | None:
        """`uri` and the columns, the last row of each URI; None where nothing is said of any input."""
        self._flush()
        if not self._names:
            return None
        names = ["uri", *sorted(self._names)]
        columns = [_joined([chunk[name] for chunk in self._chunks if name in chunk.column_names]) for name in names]
        kinds = dict(zip(names, columns, strict=True))
        parts = [
            pa.table({name: chunk[name].cast(kinds[name]) if name in chunk.column_names
                      else pa.nulls(chunk.num_rows, kinds[name]) for name in names})
            for chunk in self._chunks
        ]  # fmt: skip
        return _last(pa.concat_tables(parts))

    def notes(self) -> list[str]:
        """What is worth telling."""
        told = []
        if self.renamed:
            pairs = ", ".join(f"{old} → {new}" for old, new in sorted(self.renamed.items()))
            told.append(f"columns of the inputs are renamed, since the dataset has columns of these names: {pairs}")
        if self.left_out:
            some = ", ".join(sorted(self.left_out)[:3])
            told.append(f"{len(self.left_out)} columns beyond {MAX_COLUMNS} are left out ({some} …)")
        return told

    def _name(self, name: str, *, has_text: bool) -> str | None:
        name = _encodable(name).strip() or UNNAMED
        if name in TAKEN or (name == TEXT and has_text):
            self.renamed[name] = name = f"own_{name}"
        if name not in self._names and len(self._names) >= MAX_COLUMNS:
            self.left_out.add(name)
            return None
        self._names.add(name)
        return name

    def _flush(self) -> None:
        if not self._rows:
            return
        names = dict.fromkeys(name for row in self._rows for name in row)
        self._chunks.append(pa.table({name: _array([row.get(name) for row in self._rows]) for name in names}))
        self._rows = []


def _plain(value: Any) -> Any:
    """A value that a column holds: text, number or truth; all else as JSON. NaN and infinities are no numbers."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int) and value not in INT64:
        return str(value)
    if isinstance(value, str):
        return _encodable(value)
    if isinstance(value, bool | int):
        return value
    return json.dumps(value, default=str)


def _encodable(text: str) -> str:
    """Half of a surrogate pair is no text."""
    return text.encode("utf-8", "replace").decode()


def _array(values: list[Any]) -> pa.Array:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} and len(kinds) > 1:
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    if len(kinds) > 1:
        return pa.array([v if v is None or isinstance(v, str) else json.dumps(v) for v in values], pa.string())
    return pa.array(values, ARROW.get(next(iter(kinds), str), pa.string()))


def _joined(columns: list[pa.ChunkedArray]) -> pa.DataType:
    """The type that holds all of them; a column without a value has any."""
    kinds = {column.type for column in columns if column.null_count < len(column)}
    if kinds == {pa.int64(), pa.float64()}:
        return pa.float64()
    return kinds.pop() if len(kinds) == 1 else pa.string()


def _last(table: pa.Table) -> pa.Table:
    numbered = table.select(["uri"]).append_column("row", pa.array(range(table.num_rows), pa.int64()))
    last = numbered.group_by("uri").aggregate([("row", "max")]).sort_by("uri")
    return table.take(last["row_max"])


def laid_over(below: pa.Table | None, above: pa.Table | None) -> pa.Table | None:
    """Two tables by `uri`: where both have a row and a column, the value is that of `above`.

    Raises:
        pa.ArrowInvalid, pa.ArrowTypeError: a column has types that do not go together.
    """
    if below is None or above is None:
        return above if below is None else below
    uris = pa.table({"uri": pa.array(sorted({*below["uri"].to_pylist(), *above["uri"].to_pylist()}), pa.string())})
    old, new = left_join(uris, below, "uri"), left_join(uris, above, "uri")
    is_new = pc.is_in(uris["uri"], value_set=above["uri"].combine_chunks())
    schemas = [table.schema.remove_metadata() for table in (below, above)]
    columns: dict[str, Any] = {}
    for field in pa.unify_schemas(schemas, promote_options="permissive"):
        if field.name in new.column_names:
            columns[field.name] = new[field.name].cast(field.type)
            if field.name in old.column_names:
                columns[field.name] = pc.if_else(is_new, columns[field.name], old[field.name].cast(field.type))
        else:
            columns[field.name] = old[field.name]
    return pa.table(columns)
