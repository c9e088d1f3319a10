"""Parquet files with the bytes of the clips: what pandas, Polars, DuckDB, Ray and Daft read."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from curate.export.base import File, Layout, beside
from curate.export.source import SPLIT_NAMES, Clip, Source
from curate.shards.tar import PLACE
from curate.storage.publish import publish

GROUP_BYTES = 64 * 2**20
"""Of clips in a row group: what a reader holds in memory at a time."""
GROUP_ROWS = 256

GUIDE = """\
`media` has the bytes of the clip, `ext` says of which kind (`mp4`, `png`), and `caption` is its text.

```python
import duckdb

duckdb.sql("SELECT clip_id, caption, octet_length(media) FROM 'DIR/data/*.parquet'")
```
"""


class ParquetLayout(Layout):
    """Rows with the clip's bytes in `media`, its caption, and the columns of the index in their own types."""

    kind: Literal["parquet"] = "parquet"

    def files(self, source: Source) -> Iterator[File]:
        own = {field.name: field.type for field in source.index.schema if field.name not in PLACE}
        schema = pa.schema(list(beside(own, media=pa.binary(), caption=pa.string()).items()))
        yield from table_files(source, schema, _row)

    def data_files(self, split: str) -> str:
        return f"data/{SPLIT_NAMES[split]}-*.parquet"

    def guide(self, source: Source) -> str:
        return GUIDE


def _row(clip: Clip) -> dict[str, Any]:
    own = {name: value for name, value in clip.row.items() if name not in PLACE}
    return beside(own, media=clip.media(), caption=clip.caption)


def table_files(source: Source, schema: pa.Schema, row_of: Callable[[Clip], dict[str, Any]]) -> Iterator[File]:
    """`data/{split}-{n}-of-{total}.parquet`: a row for each clip."""
    for split, number, total, rows in source.shards():
        name = f"data/{SPLIT_NAMES[split]}-{number:05d}-of-{total:05d}.parquet"
        write = partial(_write, source=source, rows=rows, schema=schema, row_of=row_of)
        yield File(name=name, write=write, num_clips=rows.num_rows)


def _write(
    url: str, source: Source, rows: pa.Table, schema: pa.Schema, row_of: Callable[[Clip], dict[str, Any]]
) -> None:
    plain = [field.name for field in schema if not _holds_media(field.type)]
    options: dict[str, Any] = {"compression": dict.fromkeys(plain, "zstd"), "use_dictionary": plain}
    with publish(url) as file, pq.ParquetWriter(file, schema, write_statistics=plain, **options) as writer:
        group: list[dict[str, Any]] = []
        held = 0
        for clip in source.clips(rows):
            if group and (held + clip.row["size"] > GROUP_BYTES or len(group) == GROUP_ROWS):
                writer.write_table(pa.Table.from_pylist(group, schema))
                group, held = [], 0
            group.append(row_of(clip))
            held += clip.row["size"]
        writer.write_table(pa.Table.from_pylist(group, schema))


def _holds_media(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_struct(kind)
