"""What an export is made from: rows of the index, and the bytes of their clips."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from curate.dataset.captions import MOST_DETAILED, CaptionLevel, caption_column, texts_of
from curate.export.shard_size import ShardSize
from curate.shards.tar import PLACE, TarReader, read_member

ROWS = 256
"""Of the index as Python objects at a time."""
SPLIT_NAMES = {"train": "train", "val": "validation"}
"""Splits of a dataset, and their names at Hugging Face."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """One clip of an export: its row of the index, and `facts`, the row as plain values (`Source.clips`)."""

    row: Mapping[str, Any]
    facts: Mapping[str, Any]
    caption: str
    reader: TarReader

    @property
    def id(self) -> str:
        name: str = self.row["clip_id"]
        return name

    @property
    def ext(self) -> str:
        """Of the file as it was cut: mp4 or png."""
        ext: str = self.row["ext"]
        return ext

    def media(self) -> bytes:
        """The bytes as they were cut: an export encodes nothing again, unless a layout says so."""
        return read_member(self.reader, self.row)


@dataclass(frozen=True, kw_only=True)
class Source:
    """The clips of an export.

    Attributes:
        index: rows of the index, by split and clip.
        reader: of their shards.
        out: the folder that the export gets: a path or URL, for settings that name it.
        shard_size: of files that hold several clips.
        level: of captions; None: the most detailed that a clip has.
        latents: gives the payloads of a clip's latents by extension; None: no latents.
    """

    index: pa.Table
    reader: TarReader
    out: str
    shard_size: ShardSize
    level: CaptionLevel | None = None
    latents: Callable[[str], Mapping[str, bytes]] | None = field(default=None, compare=False)

    @cached_property
    def splits(self) -> dict[str, pa.Table]:
        """Rows by split, in the order of the index."""
        names = pc.unique(self.index["split"]).to_pylist()
        return {name: self.index.filter(pc.equal(self.index["split"], name)) for name in names}

    def rows(self, split: str, kind: str) -> pa.Table:
        """The rows of one split and kind."""
        of_split = self.splits[split]
        return of_split.filter(pc.equal(of_split["kind"], kind))

    @cached_property
    def groups(self) -> list[tuple[str, str]]:
        """Split and kind, of those that have clips."""
        pairs = [(split, kind) for split in self.splits for kind in ("video", "image")]
        return [(split, kind) for split, kind in pairs if self.rows(split, kind).num_rows]

    @cached_property
    def kinds(self) -> frozenset[str]:
        """`video`, `image` or both."""
        return frozenset(pc.unique(self.index["kind"]).to_pylist())

    def shards(self) -> Iterator[tuple[str, int, int, pa.Table]]:
        """Split, number, how many shards the split has, and the rows of each."""
        for split, rows in self.splits.items():
            cuts = self.shard_size.cuts(rows["size"].to_pylist())
            for number, (start, end) in enumerate(cuts):
                yield split, number, len(cuts), rows.slice(start, end - start)

    def clips(self, rows: pa.Table) -> Iterator[Clip]:
        """The clips of some rows, one in memory at a time."""
        for start in range(0, rows.num_rows, ROWS):
            part = rows.slice(start, ROWS)
            for row, facts in zip(part.to_pylist(), self._facts(part), strict=True):
                yield Clip(row=row, facts=facts, caption=caption_of(row, self.level), reader=self.reader)

    @cached_property
    def fact_columns(self) -> dict[str, bool]:
        """Columns that `facts` has, and whether all their values are text there: a column has one type in all rows.

        Numbers and truth values stay what they are where every clip has one. Null becomes an empty text.
        """
        found = {}
        for name in self.index.column_names:
            if name in PLACE:
                continue
            column = self.index[name]
            if pt.is_floating(column.type):
                column = pc.if_else(pc.is_finite(column), column, None)
            kind = column.type
            is_plain = pt.is_integer(kind) or pt.is_floating(kind) or pt.is_boolean(kind)
            found[name] = not is_plain or column.null_count > 0
        return found

    def _facts(self, rows: pa.Table) -> list[dict[str, Any]]:
        columns = [
            [_text(value) for value in rows[name].to_pylist()] if is_text else rows[name].to_pylist()
            for name, is_text in self.fact_columns.items()
        ]
        return [dict(zip(self.fact_columns, values, strict=True)) for values in zip(*columns, strict=True)]


def caption_of(row: Mapping[str, Any], level: CaptionLevel | None = None) -> str:
    """The caption of an index row of this level, None: the most detailed one; empty where it has none."""
    texts = texts_of(row)
    return next((texts[one] for one in ([level] if level else MOST_DETAILED) if one in texts), "")


def captioned(rows: pa.Table, level: CaptionLevel | None = None) -> int:
    """How many rows of an index have a caption, of this level or of any."""
    levels = [level] if level else MOST_DETAILED
    lengths = [pc.fill_null(pc.utf8_length(rows[caption_column(one)].cast(pa.string())), 0) for one in levels]
    return sum(pc.greater(pc.max_element_wise(*lengths), 0).to_pylist())


def _text(value: Any) -> str:
    """A text as it is, null and what is no number as an empty one, all else as JSON."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return value if isinstance(value, str) else json.dumps(value, default=str)
