"""Which texts the clips have embeddings of, and of how many tokens: known from the indices alone."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.captions import level_of
from curate.dataset.layout import Layout
from train.data.blend import ORDER
from train.data.fingerprint import NO_TEXT
from train.data.index import read_index
from train.data.manifest import Manifest

LISTS = {"names": pa.string(), "num_tokens": pa.int32(), "num_uncut_tokens": pa.int32()}
TEXTS = pa.schema([("clip_id", pa.large_string()), *((name, pa.list_(kind)) for name, kind in LISTS.items())])
"""An item of each list for each text of a clip. `num_uncut_tokens`: what there would be without `text.max_tokens`.
Null: the index does not tell."""


FORMER = [f"{name}_{level}" for name in ("num_tokens", "num_uncut_tokens") for level in ORDER]
"""Columns of an earlier reelpack."""


def read_texts(manifest: Manifest, lists: Sequence[str] = tuple(LISTS)) -> pa.Table:
    """`TEXTS`, or some of its lists, for the rows of a manifest, in their order; empty where a clip has no text."""
    empty = TEXTS.empty_table().select(["clip_id", *lists])
    return pa.concat_tables([empty, *(_of_part(manifest, n, lists) for n in range(len(manifest.parts)))])


def levels_of(texts: pa.Table) -> np.ndarray:
    """Which levels the rows of `TEXTS` have: (N, levels in `ORDER`) bool."""
    has = np.zeros((texts.num_rows, len(ORDER)), bool)
    names = texts["names"].combine_chunks()
    encoded = pc.list_flatten(names).dictionary_encode()
    levels = [level_of(name) for name in encoded.dictionary.to_pylist()]
    numbers = np.array([ORDER.index(level) if level in ORDER else -1 for level in levels], np.int64)
    numbers, rows = numbers[encoded.indices.to_numpy()], pc.list_parent_indices(names).to_numpy()
    has[rows[numbers >= 0], numbers[numbers >= 0]] = True
    return has


def _of_part(manifest: Manifest, number: int, lists: Sequence[str]) -> pa.Table:
    part, clips = manifest.parts[number], manifest.column("clip_id").filter(pa.array(manifest.sources == number))
    stored = TEXTS.empty_table()
    if part.text != NO_TEXT["fingerprint"]:
        url = Layout(part.url).encoded("text", part.text).index
        stored = _with_lists(read_index(url, "reelpack encode", ["clip_id"], ["clip_id"], [*LISTS, *FORMER]))
    rows = pc.index_in(clips, stored["clip_id"].combine_chunks()).combine_chunks()
    columns = {"clip_id": clips.cast(pa.large_string())}
    for name in lists:
        found = stored[name].combine_chunks().take(rows)
        columns[name] = pc.if_else(pc.is_null(rows), pa.scalar([], found.type), found)
    return pa.table(columns)


def _with_lists(index: pa.Table) -> pa.Table:
    """Rows of an index as `TEXTS`. An earlier reelpack wrote a column per level, null where a clip has no text."""
    if {*LISTS} <= {*index.column_names}:
        return index.select(TEXTS.names).cast(TEXTS)
    levels = [level for level in ORDER if f"num_tokens_{level}" in index.column_names]
    if not levels:
        lists = [pa.nulls(index.num_rows, pa.list_(kind)) for kind in LISTS.values()]
        return pa.table([index["clip_id"], *lists], schema=TEXTS)
    counts = np.stack([_numbers(index, f"num_tokens_{level}") for level in levels], axis=1)
    uncut = np.stack([_numbers(index, f"num_uncut_tokens_{level}") for level in levels], axis=1)
    has = counts > 0
    ends = pa.array(np.concatenate([[0], has.sum(1).cumsum()]).astype(np.int32))
    flat = (np.broadcast_to(np.array(levels), has.shape)[has], counts[has], np.maximum(counts, uncut)[has])
    lists = [
        pa.ListArray.from_arrays(ends, pa.array(values, kind))
        for values, kind in zip(flat, LISTS.values(), strict=True)
    ]
    return pa.table([index["clip_id"], *lists], schema=TEXTS)


def _numbers(index: pa.Table, name: str) -> np.ndarray:
    """(N,) int64; 0 where there is none."""
    if name not in index.column_names:
        return np.zeros(index.num_rows, np.int64)
    return index[name].cast(pa.int64()).fill_null(0).to_numpy()
