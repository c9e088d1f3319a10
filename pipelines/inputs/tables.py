"""Tables that hold media: Parquet files, and folders that Hugging Face's `datasets` saved. Payloads are not read.

A column of media is a struct `{bytes, path}`, as the features Image and Video are stored, or the one column of bytes
that is called so. The other columns are the user's own.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from curate.media.fetch import local_copy
from curate.media.origin import remote_errors, version_of
from curate.media.recognize import MEDIA_ENDINGS
from curate.media.staging import StagingConfig
from curate.media.table_rows import row_version
from curate.schema import Failure, FailureKind, MediaError
from curate.storage.access import public
from curate.storage.inside import member_uri
from curate.storage.place import locate
from pipelines.inputs.rows import rows_of
from pipelines.inputs.sample import Sample, read_json, text_of
from pipelines.inputs.sources import Source, failure_of

PLAIN = MEDIA_ENDINGS | {f"{name}{end}" for name in ("image", "video", "media") for end in ("", "_bytes")} | {"bytes"}
"""Names of columns that hold plain bytes of media."""
BATCH_ROWS = 1000


def read_schema(fs: fsspec.AbstractFileSystem, path: str) -> pa.Schema:
    """The columns of a Parquet file.

    Raises:
        OSError, ValueError: it cannot be read.
    """
    with fs.open(path, "rb") as file:
        return pq.read_schema(file)


def media_columns(schema: pa.Schema) -> list[str]:
    """The columns that hold images or videos."""
    features = _features(schema)
    found = [field.name for field in schema if _is_media(field.type, features.get(field.name, {}))]
    plain = [field.name for field in schema if field.name.lower() in PLAIN and _is_bytes(field.type)]
    return found or (plain if len(plain) == 1 else [])


def _features(schema: pa.Schema) -> Mapping[str, Any]:
    """The features by column, as `datasets` writes them; none where what stands there is of another form."""
    try:
        found = read_json((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_media(kind: pa.DataType, feature: object) -> bool:
    if not pa.types.is_struct(kind) or {kind.field(n).name for n in range(kind.num_fields)} != {"bytes", "path"}:
        return False
    named = feature.get("_type") if isinstance(feature, dict) else None
    return named in (None, "Image", "Video") and _is_bytes(kind.field("bytes").type)


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def read_table(url: str) -> Iterator[Sample | Failure]:
    """The samples of a Parquet file, row by row."""
    try:
        fs, path = locate(url)
        version = version_of(url, fs, path)
        with remote_errors(public(url)), fs.open(path, "rb") as file, pq.ParquetFile(file) as table:
            media = media_columns(table.schema_arrow)
            others = _others(table.schema_arrow, media)
            size = sum(table.metadata.row_group(n).total_byte_size for n in range(table.num_row_groups))
            # Of a struct its path alone, which tells whether the struct is there.
            shown = [f"{name}.path" for name in media if not _is_bytes(table.schema_arrow.field(name).type)]
            batches = table.iter_batches(BATCH_ROWS, columns=[*others, *shown])
            rows = _rows(batches, media, table.metadata.num_rows)
            yield from _samples(url, version, media, rows, size // max(1, table.metadata.num_rows))
    except MediaError as error:
        yield failure_of(public(url), error.kind, error.detail)


def read_saved(url: str, config: StagingConfig) -> Iterator[Sample | Failure]:
    """The samples of a folder of `Dataset.save_to_disk`, file by file in its own order."""
    fs, path = locate(url)
    names: list[str] = []
    try:
        with remote_errors(public(url)):
            state = read_json(fs.cat_file(f"{path}/state.json"))
            names = [str(entry["filename"]) for entry in state["_data_files"]]
    except (MediaError, KeyError, TypeError) as error:
        yield failure_of(public(url), FailureKind.CORRUPT, f"state.json names no data files ({error})")
    for name in names:
        yield from _read_arrow(f"{url}/{name}", config)


def _read_arrow(url: str, config: StagingConfig) -> Iterator[Sample | Failure]:
    try:
        fs, path = locate(url)
        version = version_of(url, fs, path)
        with remote_errors(public(url)), local_copy(url, config) as local, pa.memory_map(local) as source:
            table = pa.ipc.open_stream(source).read_all()
            media = media_columns(table.schema)
            if not media:
                detail = f"none of its columns holds images or videos ({', '.join(table.column_names)})"
                raise MediaError(FailureKind.NOT_MEDIA, f"{public(url)}: {detail}")
            shown = table.select(_others(table.schema, media))
            for name in media:
                shown = shown.append_column(name, table[name].is_valid())
            rows = _rows(iter(shown.to_batches(BATCH_ROWS)), media, table.num_rows)
            yield from _samples(url, version, media, rows, source.size() // max(1, table.num_rows))
    except MediaError as error:
        yield failure_of(public(url), error.kind, error.detail)


def _others(schema: pa.Schema, media: list[str]) -> list[str]:
    """The user's own columns."""
    return [field.name for field in schema if field.name not in media and not _is_bytes(field.type)]


def _rows(
    batches: Iterator[pa.RecordBatch], media: list[str], num_rows: int
) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """The user's own values of each row, and the columns of its media: a null is none."""
    given = 0
    for batch in batches:
        for row in rows_of(batch):
            given += 1
            yield row, [name for name in media if row.pop(name, True)]
    yield from (({}, media) for _ in range(num_rows - given))


def _samples(
    url: str, version: str, media: list[str], rows: Iterator[tuple[dict[str, Any], list[str]]], row_bytes: int
) -> Iterator[Sample | Failure]:
    for number, (row, columns) in enumerate(rows):
        text, own = text_of(row)
        if not columns:
            subject = member_uri(public(url), f"{number}.{media[0]}")
            yield failure_of(subject, FailureKind.MISSING, f"row {number} has neither an image nor a video")
        for column in columns:
            name = f"{number}.{column}"
            source = Source(
                uri=member_uri(public(url), name),
                size_bytes=row_bytes,
                version=row_version(version, number),
                signed=None if public(url) == url else member_uri(url, name),
            )
            yield Sample(source=source, text=text, columns=own)
