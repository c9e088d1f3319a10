"""Tombstones: videos that were taken down. They keep a video out of later runs, and say what a stopped take-down has
still to remove.

A row is of one URI and the bytes that were there. It holds hashes and names, and nothing of the content. Equal bytes
at another URI get a row when a run meets them.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

FORGOTTEN = pa.schema(
    [
        ("uri", pa.string()),
        ("video_id", pa.string()),  # "" where the file could never be read
        ("at", pa.string()),  # ISO 8601, UTC
        ("reason", pa.string()),
        ("num_clips", pa.int64()),
        ("clip_ids", pa.list_(pa.string())),
        ("is_done", pa.bool_()),  # nothing of it is left
    ]
)
"""Rows of `tables/forgotten`, unique by `uri` and `video_id`. The row is published before anything is removed, and
again when all is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tombstones:
    """All of them, as sets."""

    uris: frozenset[str]
    video_ids: frozenset[str]
    clip_ids: frozenset[str]

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> "Tombstones":
        found = list(rows)
        return cls(
            uris=frozenset(row["uri"] for row in found),
            video_ids=frozenset(row["video_id"] for row in found if row["video_id"]),
            clip_ids=frozenset(name for row in found for name in row["clip_ids"]),
        )


def without(table: pa.Table, column: str, values: Collection[str]) -> pa.Table:
    """The rows whose column has none of these values. Nothing of the others is left: a column that is encoded as a
    dictionary would keep their values there."""
    rows = table.filter(pc.invert(pc.is_in(table[column], pa.array(sorted(values), table.schema.field(column).type))))
    for position, field in enumerate(rows.schema):
        if pa.types.is_dictionary(field.type):
            plain = rows[field.name].cast(field.type.value_type)
            rows = rows.set_column(position, field, plain.combine_chunks().dictionary_encode().cast(field.type))
    return rows


def relocated(index: pa.Table, places: pa.Table, key: Sequence[str]) -> pa.Table:
    """An index with the locations that another table has of the same members; rows that it lacks stay as they are.

    Args:
        index: has `shard`, `offset` and the columns `key`.
        places: likewise.
        key: columns that tell members apart.
    """
    known = zip(*(places[name].to_pylist() for name in (*key, "shard", "offset")), strict=True)
    place_of = {row[:-2]: row[-2:] for row in known}
    rows = zip(*(index[name].to_pylist() for name in (*key, "shard", "offset")), strict=True)
    found = [place_of.get(row[:-2], row[-2:]) for row in rows]
    for number, name in enumerate(("shard", "offset")):
        position, field = index.schema.get_field_index(name), index.schema.field(name)
        index = index.set_column(position, field, pa.array([place[number] for place in found], field.type))
    return index
