"""Clips by a condition of SQL over their columns: `nsfw < 0.2 and licence = 'CC0'`.

DuckDB evaluates one expression over a table in memory. It may not open files or sockets, load extensions or see
variables of the process. Names of columns and functions do not depend on case. A condition that is null, because a
value is, is not met: `coalesce(nsfw, 0) < 0.2` also takes the clips whose `nsfw` is not known.
"""

import difflib
import re
from typing import Any

import pyarrow as pa

from curate.dataset.dataset import Dataset
from curate.dataset.table import left_join

RULES = {
    "enable_external_access": "false",
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "python_enable_replacements": "false",
    "lock_configuration": "true",
}


def where(table: pa.Table, condition: str) -> pa.Table:
    """The rows that meet a condition, in their order.

    Raises:
        ValueError: it is no condition over these columns; of an unknown column, the message has the nearest one.
    """
    import duckdb

    connection = duckdb.connect(config={**RULES})
    row_name, met_name = _free("__row", table.column_names), _free("__met", table.column_names)
    numbered = table.append_column(row_name, pa.array(range(table.num_rows), pa.int64()))
    try:
        _refuse_ambiguous(condition, table.column_names)
        relation = connection.from_arrow(numbered)
        row = duckdb.ColumnExpression(row_name)
        found = relation.select(row, duckdb.SQLExpression(condition).alias(met_name))
        if [str(kind) for kind in found.types[1:]] not in (["BOOLEAN"], ['"NULL"'], ["NULL"]):
            kinds = ", ".join(str(kind) for kind in found.types[1:])
            raise ValueError(f"got {kinds}, expected a condition that is true or false for each clip")
        met = found.filter(duckdb.ColumnExpression(met_name)).select(row).to_arrow_table()[row_name].combine_chunks()
    except (duckdb.Error, ValueError) as error:
        raise ValueError(f"--where {condition!r}: {_told(error, table.column_names)}") from error
    finally:
        connection.close()
    rows = met.sort()
    if len(rows.unique()) != len(rows):
        raise ValueError(f"--where {condition!r}: it makes several rows of one clip; expected one condition for each")
    return table.take(rows)


def all_columns(dataset: Dataset, index: pa.Table) -> pa.Table:
    """An index with what else is known of its clips: scores, signals and duplicates, of `clips.parquet`."""
    clips = dataset.read_clips()
    further = [name for name in clips.column_names if name == "clip_id" or name not in index.column_names]
    return left_join(index, clips.select(further), "clip_id")


def _free(name: str, columns: list[str]) -> str:
    """The name, longer where it is one of the user's."""
    return name if name not in map(str.lower, columns) else _free(f"{name}_", columns)


def _refuse_ambiguous(condition: str, columns: list[str]) -> None:
    """DuckDB takes the first of two columns whose names differ in case alone.

    Raises:
        ValueError: the condition names such a column.
    """
    words = set(re.findall(r"\w+", condition.lower()))
    for name in columns:
        others = [other for other in columns if other != name and other.lower() == name.lower()]
        if others and name.lower() in words:
            raise ValueError(f"{name} and {others[0]} differ in case alone, so a condition cannot tell them apart")


def _told(error: Any, columns: list[str]) -> str:
    """DuckDB's message on one line."""
    text = str(error).partition("\n\nLINE")[0]
    if unknown := re.search(r'column "?([^"]+)"? not found', text):
        nearest = difflib.get_close_matches(unknown[1].lower(), columns, 1, 0.5)
        listed = f"the columns are {', '.join(columns)}; text stands in single quotes: '{unknown[1]}'"
        hint = f"the nearest is {nearest[0]}" if nearest else listed
        return f"there is no column {unknown[1]}; {hint}"
    if "GROUP BY" in text:
        return "an aggregate is of all clips; write it as max(x) over ()"
    return " ".join(text.split("\nCandidate")[0].split())
