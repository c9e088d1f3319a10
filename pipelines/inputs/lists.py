"""Lists of inputs: CSV, JSONL, JSON, Parquet, or a path per line. A row is a file, or a stretch of a video.

A row that cannot be used is a failure that names it; the others are read.
"""

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from typing import Any

import pyarrow.parquet as pq

from curate.media.origin import reaching
from curate.schema import Failure, FailureKind, MediaError
from curate.shots.stretch import read_ends
from curate.storage.access import public, without_secrets
from curate.storage.inside import Ends, stretch_uri
from curate.storage.place import is_url, locate
from pipelines.inputs.rows import rows_of
from pipelines.inputs.sample import About, Sample, read_json, text_of
from pipelines.inputs.sidecar_file import SidecarConfig, decoded, separator, typed
from pipelines.inputs.sources import failure_of, kind_of_error, source_of
from pipelines.inputs.spread import spread

PATHS = (
    "path", "file_name", "file", "file_path", "filename", "video_path", "image_path", "media_path", "video", "image",
    "url", "video_url", "image_url", "uri",
)  # fmt: skip
"""Columns that name the file of a row. The first that a list has counts."""
ENDS: Mapping[tuple[str, str], str] = {
    ("first_frame", "end_frame"): "f",
    ("start_s", "end_s"): "s",
    ("start", "end"): "t",
    ("start_time", "end_time"): "t",
}
"""Columns of the two ends of a stretch → their unit (`curate.storage.inside.Ends`)."""
NUM_LOOKS = 16
"""Files that are looked at at the same time."""
LOOK_AHEAD = 1024
"""Rows whose files are looked at together."""

Row = tuple[str, dict[str, Any]]
"""The place of a row in its list, and its values."""


def read_list(url: str, config: SidecarConfig) -> Iterator[Sample | Failure]:
    """The samples of a list, and a failure for each row that is none."""
    seen: dict[str, str] = {}
    rows, is_empty = _stretches(_rows(url, config)), True
    while some := list(islice(rows, LOOK_AHEAD)):
        is_empty = False
        with ThreadPoolExecutor(NUM_LOOKS) as pool:
            for result in pool.map(lambda row: row if isinstance(row, Failure) else _read(url, *row), some):
                if isinstance(result, Failure):
                    yield result
                    continue
                first = seen.setdefault(result.source.uri, result.source.where)
                if first != result.source.where:
                    detail = f"{result.source.uri} is named by {first}, too; a file, or a stretch of one, has one row"
                    yield failure_of(result.source.where, FailureKind.DUPLICATE, detail)
                else:
                    yield result
    if is_empty:
        yield failure_of(public(url), FailureKind.NOT_MEDIA, "the list has no row")


def _stretches(rows: Iterator[Row | Failure]) -> Iterator[Row | Failure]:
    for row in rows:
        yield from [row] if isinstance(row, Failure) else spread(*row)


def read_metadata(url: str, config: SidecarConfig) -> Iterator[About | Failure]:
    """What a `metadata` file says of the files of its folder."""
    for row in _rows(url, config):
        if isinstance(row, Failure):
            yield row
            continue
        where, values = row
        path, rest = _path_of(values)
        if path is None:
            yield failure_of(where, FailureKind.NOT_MEDIA, _no_path(values))
        else:
            text, columns = text_of(rest)
            yield About(where=where, url=_place(url, path), text=text, columns=columns)


def _read(url: str, where: str, values: Mapping[str, Any]) -> Sample | Failure:
    path, rest = _path_of(values)
    if path is None:
        return failure_of(where, FailureKind.NOT_MEDIA, _no_path(values))
    try:
        ends, rest = _ends_of(rest)
    except ValueError as error:
        return failure_of(where, FailureKind.SPANS, f"{path}: {error}")
    place = _place(url, path)
    try:
        with reaching(place):
            source = source_of(*locate(place))
    except MediaError as error:
        return failure_of(where, error.kind, error.detail)
    except (OSError, ValueError, ImportError) as error:
        return failure_of(where, FailureKind.IO, f"{public(place)}: {without_secrets(str(error))}")
    if isinstance(source, Failure):
        return failure_of(where, source.kind, f"{source.subject}: {source.detail}")
    if ends is not None:
        signed = source.signed and stretch_uri(source.signed, ends)
        source = replace(source, uri=stretch_uri(source.uri, ends), signed=signed)
    text, columns = text_of(rest)
    return Sample(source=replace(source, where=where), text=text, columns=columns)


def _path_of(values: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """The path in a row, and its other values."""
    name = next((name for name in PATHS if isinstance(values.get(name), str) and values[name].strip()), None)
    rest = {key: value for key, value in values.items() if key != name}
    return (None if name is None else values[name].strip()), rest


def _no_path(values: Mapping[str, Any]) -> str:
    return f"got the columns {', '.join(values) or 'none'}; expected one of {', '.join(PATHS)} with a path or URL"


def _place(url: str, path: str) -> str:
    """The file that a row names: from the folder of its list, where it is no URL and no absolute path."""
    if is_url(path) or path.startswith(("/", "~", "file://")):
        return path
    return f"{url.partition('?')[0].rpartition('/')[0]}/{path.removeprefix('./')}"


def _ends_of(values: Mapping[str, Any]) -> tuple[Ends | None, dict[str, Any]]:
    """The ends of a stretch in a row, None where both are empty, and its other values.

    Raises:
        ValueError: one end is missing, or they cannot be read.
    """
    whole = (pair for pair in ENDS if set(pair) <= values.keys())
    pair = next(whole, None) or next((pair for pair in ENDS if set(pair) & values.keys()), None)
    if pair is None:
        return None, dict(values)
    rest = {key: value for key, value in values.items() if key not in pair}
    start, end = (_moment(values.get(name)) for name in pair)
    if not start and not end:
        return None, rest
    if not start or not end:
        raise ValueError(f"got {pair[0]} {start or 'without a value'} and {pair[1]} {end or 'without a value'}")
    ends = (ENDS[pair], start, end)
    read_ends(ends)
    return ends, rest


def _moment(value: object) -> str:
    """A moment as written; empty for none, and for NaN."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float):
        return f"{value:.6f}".rstrip("0").rstrip(".")
    return str(value).strip().replace(",", ".")


def _rows(url: str, config: SidecarConfig) -> Iterator[Row | Failure]:
    """The rows of a list, and failures for those that cannot be read."""
    name = public(url)
    ending = url.partition("?")[0].rpartition(".")[2].lower()
    readers: dict[str, Callable[..., Iterator[Row | Failure]]] = {
        "csv": _csv_rows, "tsv": _csv_rows, "jsonl": _json_lines, "ndjson": _json_lines, "json": _json_rows,
    }  # fmt: skip
    try:
        fs, path = locate(url)
        with reaching(url):
            data = fs.cat_file(path)
        if ending == "parquet":
            yield from _parquet_rows(io.BytesIO(data), name)
            return
        text = decoded(data, config.encoding, name)
        yield from readers.get(ending, _lines)(text, name, config)
    except MediaError as error:
        yield failure_of(name, error.kind, error.detail)
    except (OSError, ValueError, OverflowError) as error:
        kind = kind_of_error(error) if isinstance(error, OSError) else FailureKind.CORRUPT
        yield failure_of(name, kind, f"cannot be read ({without_secrets(str(error))})")


def _csv_rows(text: str, name: str, config: SidecarConfig) -> Iterator[Row | Failure]:
    begins, names = 1, list[str]()
    limit = csv.field_size_limit(max(1, len(text)))
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator(text, PATHS), strict=True)
        for row in reader:
            where, begins = f"{name}, line {begins}", reader.line_num + 1
            if not row:
                continue
            if not names:
                names = row
                if len(set(names)) < len(names):
                    raise ValueError(f"{where}: a column is there twice ({', '.join(names)})")
            elif len(row) != len(names):
                yield failure_of(where, FailureKind.CORRUPT, f"got {len(row)} values, the header has {len(names)}")
            else:
                yield _typed(where, dict(zip(names, row, strict=True)), config)
    except csv.Error as error:
        raise ValueError(f"line {begins} is no CSV: {error}") from error
    finally:
        csv.field_size_limit(limit)


def _typed(where: str, row: dict[str, str], config: SidecarConfig) -> Row | Failure:
    try:
        return where, {key: typed(value, config.types.get(key, "text"), where) for key, value in row.items() if value}
    except ValueError as error:
        return failure_of(where, FailureKind.CORRUPT, str(error))


def _json_lines(text: str, name: str, config: SidecarConfig) -> Iterator[Row | Failure]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            where = f"{name}, line {number}"
            try:
                yield _object(where, read_json(line))
            except ValueError as error:
                yield failure_of(where, FailureKind.CORRUPT, f"is no JSON ({error})")


def _json_rows(text: str, name: str, config: SidecarConfig) -> Iterator[Row | Failure]:
    rows = read_json(text)
    if not isinstance(rows, list):
        raise ValueError(f"holds {type(rows).__name__}, expected a list of objects")
    yield from (_object(f"{name}, line {number}", row) for number, row in enumerate(rows, 1))


def _object(where: str, row: object) -> Row | Failure:
    if isinstance(row, dict):
        return where, row
    return failure_of(where, FailureKind.CORRUPT, f"got {type(row).__name__}, expected an object")


def _lines(text: str, name: str, config: SidecarConfig) -> Iterator[Row]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield f"{name}, line {number}", {"path": line.strip()}


def _parquet_rows(file: Any, name: str) -> Iterator[Row]:
    with pq.ParquetFile(file) as table:
        number = 0
        for batch in table.iter_batches():
            for row in rows_of(batch):
                number += 1
                yield f"{name}, line {number}", row
