"""Indices of a dataset, as they are read: Parquet tables of `clip_id` and what is known of it."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.dataset.layout import Layout
from curate.errors import Missing
from curate.storage.place import locate

BALANCE = "balance_weight"
PLACE = ["clip_id", "shard", "offset", "size", "digest"]
WINDOW = "window"
START = "start_frame"
OPTIONAL = (BALANCE, "digest", WINDOW)
"""What another tool, or an earlier reelpack, does not write."""


def read_index(
    url: str, command: str, key: Sequence[str], columns: Sequence[str], others: Sequence[str] = ()
) -> pa.Table:
    """`columns` of a table (`digest` null where it has none, `window` 0), and those of `others` that it has; no row of
    the same `key` twice. Text is large_string: string columns end at 2 GiB."""
    file = _open_index(url, command)
    stored = file.schema_arrow.names
    if missing := [name for name in columns if name not in stored and name not in OPTIONAL]:
        raise ValueError(
            f"{url}: got columns {', '.join(stored)}; expected {', '.join(missing)}, too: `{command}` writes them"
        )
    asked = {*columns, *others}
    try:
        table = file.read([name for name in stored if name in asked])
    except (OSError, pa.ArrowInvalid) as error:
        raise _unreadable(url, command, error) from error
    if "digest" in columns and "digest" not in stored:
        table = table.append_column("digest", pa.nulls(table.num_rows, pa.large_string()))
    if WINDOW in columns and WINDOW not in stored:
        table = table.append_column(WINDOW, pa.array(np.zeros(table.num_rows, np.int32)))
    table = table.cast(pa.schema([field.with_type(_large(field.type)) for field in table.schema]))
    if pc.count_distinct(table["clip_id"]).as_py() == table.num_rows:
        return table
    groups = table.group_by(list(key)).aggregate([([], "count_all")])
    if groups.num_rows < table.num_rows:
        twice = groups.filter(pc.greater(groups["count_all"], 1))
        raise ValueError(
            f"{url}: {twice.num_rows} clips stand there more than once, such as {twice['clip_id'][0].as_py()}; "
            f"`{command}` writes each once"
        )
    return table


def index_column(
    dataset: str, name: str, shards: pa.Table, clip_ids: pa.ChunkedArray, setting: str
) -> pa.ChunkedArray:
    """A column of the index or of clips.parquet, in the order of `clip_ids`."""
    source = shards
    if name not in shards.column_names:
        url = Layout(dataset).clips
        source = read_index(url, "reelpack curate", ["clip_id"], ["clip_id"], [name])
        if name not in source.column_names:
            stored = sorted(_open_index(url, "reelpack curate").schema_arrow.names)
            raise ValueError(f"{setting}: {dataset} stores no {name!r}; it has {', '.join(stored)}")
    rows = pc.index_in(clip_ids, source["clip_id"].combine_chunks())
    return source[name].take(rows)


def _open_index(url: str, command: str) -> pq.ParquetFile:
    fs, path = locate(url)
    if not fs.exists(path):
        raise Missing(f"{url}: no such index; `{command}` writes it")
    try:
        return pq.ParquetFile(path, filesystem=fs)
    except (OSError, pa.ArrowInvalid) as error:
        raise _unreadable(url, command, error) from error


def _unreadable(url: str, command: str, error: Exception) -> ValueError:
    return ValueError(f"{url}: cannot be read ({error}); `{command}` writes it again")


def _large(kind: pa.DataType) -> pa.DataType:
    return pa.large_string() if pa.types.is_string(kind) else kind
