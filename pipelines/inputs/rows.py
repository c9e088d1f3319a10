"""Rows of Arrow tables as Python's values."""

from typing import Any

import pyarrow as pa


def rows_of(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """The rows of a batch. Dates, times and durations are text: Python's have fewer years and no nanoseconds."""
    columns = [_as_text(column) if pa.types.is_temporal(column.type) else column for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names).to_pylist()


def _as_text(column: pa.Array) -> pa.Array:
    """What cannot be written as text is its number."""
    try:
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return column.cast(pa.int64()).cast(pa.string())
