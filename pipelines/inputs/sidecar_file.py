"""The file of the user's own columns: what was written stays.

CSV has no types: every value is text, "00123" and "NA" too, unless `sidecar.types` names a type. JSONL and Parquet
keep the types that they have. What says a thing twice, or cannot be read as it stands, is refused with its line.
"""

import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from curate.storage.access import public
from curate.storage.place import locate

PATH = "path"
SEPARATORS = (",", "\t", ";")
BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
INT64 = range(-(2**63), 2**63)

Type = Literal["text", "int", "float", "bool"]
ARROW: Mapping[Type, pa.DataType] = {
    "text": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
}


class SidecarConfig(BaseModel):
    """How the file of `--sidecar` is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    types: dict[str, Type] = Field({}, description="type of a CSV's column by its name; all others are text")
    encoding: str | None = Field(
        None, description="of a CSV or JSONL file, such as latin-1; none: UTF-8, or what its byte order mark says"
    )


def read_file(url: str, config: SidecarConfig) -> pa.Table:
    """Read a CSV (separated by commas, tabs or semicolons), JSONL or Parquet file with a column `path`.

    NaN becomes null: it says that there is no number.

    Raises:
        ValueError: it is not there or cannot be read as it stands, has no `path`, or names a path or a column twice.
    """
    where = f"--sidecar {public(url)}"
    fs, path = locate(url)
    ending = path.rpartition(".")[2].lower()
    if ending not in ("csv", "tsv", "jsonl", "ndjson", "parquet"):
        raise ValueError(f"{where}: expected a file that ends in .csv, .tsv, .jsonl or .parquet")
    if config.types and ending not in ("csv", "tsv"):
        raise ValueError(f"{where}: sidecar.types is for CSV; this file has types of its own")
    try:
        data = fs.cat_file(path)
        if ending == "parquet":
            table = pq.read_table(io.BytesIO(data))
        elif ending in ("csv", "tsv"):
            table = _csv_table(decoded(data, config.encoding, where), config.types, where)
        else:
            table = _json_table(decoded(data, config.encoding, where), where)
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"{where}: cannot be read ({error})") from error
    _check_columns(table.column_names, where)
    _check_paths(table, where)
    return _without_nan(table, where)


def decoded(data: bytes, encoding: str | None, where: str) -> str:
    marked = next((name for mark, name in BYTE_ORDER_MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding or marked)
    except LookupError as error:
        raise ValueError(f"sidecar.encoding={encoding}: Python knows no such encoding") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{where}, line {line}: byte 0x{data[error.start]:02x} is not {error.encoding}; save the file as UTF-8, "
            "or name its encoding, such as --set sidecar.encoding=latin-1"
        ) from error


def _csv_table(text: str, types: Mapping[str, Type], where: str) -> pa.Table:
    records = _records(text, where)
    _, names = next(records, (1, []))
    _check_columns(names, f"{where}, line 1")
    if unknown := sorted(types.keys() - set(names)):
        raise ValueError(f"sidecar.types: {where} has no column {', '.join(unknown)}; it has {', '.join(names)}")
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for line, row in records:
        if len(row) != len(names):
            raise ValueError(
                f"{where}, line {line}: got {len(row)} values, and the header has {len(names)}; a value that holds a "
                'separator or a newline stands in quotes: "a, b"'
            )
        for name, value in zip(names, row, strict=True):
            columns[name].append(typed(value, types.get(name, "text"), f"{where}, line {line}, column {name}"))
    return pa.table({name: pa.array(column, ARROW[types.get(name, "text")]) for name, column in columns.items()})


def _records(text: str, where: str) -> Iterator[tuple[int, list[str]]]:
    """Rows of a CSV, each with the line that it begins on; empty lines are none."""
    begins = 1
    limit = csv.field_size_limit(max(1, len(text)))  # a value may be as long as it likes
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator(text), strict=True)
        for row in reader:
            if row:
                yield begins, row
            begins = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(
            f"{where}, line {begins}: is no CSV ({error}); in a value in quotes, a quote is written twice"
        ) from error
    finally:
        csv.field_size_limit(limit)


def separator(text: str, columns: Sequence[str] = (PATH,)) -> str:
    """The first under which the header has one of the columns."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    return next((one for one in SEPARATORS if set(columns) & set(next(csv.reader([header], delimiter=one), []))), ",")


def typed(value: str, kind: Type, where: str) -> str | int | float | bool | None:
    """A value of CSV; an empty one is null, or an empty text."""
    if kind == "text":
        return value
    if not value.strip():
        return None
    try:
        return _READ[kind](value)
    except (KeyError, ValueError, OverflowError) as error:
        raise ValueError(f"{where}: got {value!r}, expected {kind} as sidecar.types says") from error


def _int(value: str) -> int:
    if not re.fullmatch(r"\s*[+-]?[0-9]+\s*", value):  # Python takes 1_000, too
        raise ValueError(value)
    number = int(value)
    if number not in INT64:
        raise OverflowError(value)
    return number


def _float(value: str) -> float:
    if "_" in value:
        raise ValueError(value)
    return float(value)


def _bool(value: str) -> bool:
    return {"true": True, "false": False}[value.strip().lower()]


_READ: Mapping[Type, Callable[[str], int | float | bool]] = {"int": _int, "float": _float, "bool": _bool}


def _json_table(text: str, where: str) -> pa.Table:
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    rows = [_json_row(line, f"{where}, line {number}") for number, line in lines]
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        try:
            columns[name] = _array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            first = next(value for value in values if value is not None)
            odd = next(n for n, value in enumerate(values) if not _goes_with(value, first))
            raise ValueError(
                f"{where}, line {lines[odd][0]}, column {name}: got {values[odd]!r}, which has not the type of the "
                f"column ({error}); write all of it as text, in quotes"
            ) from error
    return pa.table(columns)


def _json_row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line, object_pairs_hook=_object)
    except ValueError as error:
        raise ValueError(f"{where}: is no JSON object ({error})") from error
    if not isinstance(row, dict):
        raise ValueError(f'{where}: got {type(row).__name__}, expected an object such as {{"path": …}}')
    return row


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"{_twice([name for name, _ in pairs])!r} stands in it more than once")
    return found


def _array(values: Sequence[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except OverflowError:  # Arrow guesses int64
        return pa.array(values, pa.uint64())


def _goes_with(value: Any, first: Any) -> bool:
    """Whether Arrow holds both in one column."""
    try:
        _array([first, value])
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return False
    return True


def _check_columns(names: Sequence[str], where: str) -> None:
    if PATH not in names:
        raise ValueError(f"{where}: got the columns {', '.join(names)}; expected one named `{PATH}`")
    if (name := _twice(names)) is not None:
        raise ValueError(f"{where}: the column {name!r} is there more than once; rename one")


def _check_paths(table: pa.Table, where: str) -> None:
    kind = table.schema.field(PATH).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if table.num_rows and not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise ValueError(f"{where}: the column `{PATH}` is {kind}, expected text")
    if table.num_rows and not all(paths := table[PATH].to_pylist()):
        raise ValueError(f"{where}: row {paths.index(next(p for p in paths if not p)) + 1} has no `{PATH}`")


def _twice(names: Sequence[str]) -> str | None:
    return next((name for name, count in Counter(names).items() if count > 1), None)


def _without_nan(table: pa.Table, where: str) -> pa.Table:
    """NaN, also within lists and structs, as null.

    Raises:
        ValueError: an infinity, which no JSON holds.
    """
    for number, field in enumerate(table.schema):
        if _has_floats(field.type):
            values = [_finite(value, f"{where}, column {field.name}") for value in table[field.name].to_pylist()]
            table = table.set_column(number, field, pa.array(values, field.type))
    return table


def _has_floats(kind: pa.DataType) -> bool:
    if pa.types.is_floating(kind):
        return True
    return any(_has_floats(kind.field(number).type) for number in range(kind.num_fields))


def _finite(value: Any, where: str) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, float) and math.isinf(value):
        raise ValueError(f"{where}: got {value}; expected numbers, and null where there is none")
    if isinstance(value, dict):
        return {name: _finite(part, where) for name, part in value.items()}
    if isinstance(value, list):
        return [_finite(part, where) for part in value]
    return value
