"""The captions that count now: by the review, by the captioner that ran last, and the user's own text. Read only."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import pyarrow as pa

from curate.dataset.judged import HUMAN, judged
from curate.dataset.layout import Layout
from curate.dataset.ordered import Follower, last_of_each, sorted_by
from curate.dataset.schemas import CAPTIONS
from curate.dataset.sources import SOURCE, of_current
from curate.dataset.table import TableReader
from curate.storage.place import locate
from curate.storage.yaml_text import from_yaml

KEY = ("clip_id", "level", "variant")
"""Of a caption."""
FORMER = {"level": "kind"}
"""Column of a caption's table → its name in parts of an earlier reelpack."""
FEW = 64
"""Clips that are looked up each by its id; of more, all rows are read."""


def read_sections(layout: Layout) -> dict[str, Any]:
    """What each step ran with; empty where there is no config.yaml."""
    fs, path = locate(layout.config)
    return (from_yaml(fs.cat_file(path)) or {}) if fs.exists(path) else {}


def current_families(layout: Layout) -> list[str]:
    """The families whose texts count; an earlier one hides the same level and variant of a later one."""
    sections = read_sections(layout)
    named = [HUMAN, sections.get("caption_family"), sections.get("original_family")]
    return [family for family in named if family]


def current_records(layout: Layout, cut: pa.Table, columns: Sequence[str] | None = None) -> pa.Table:
    """The captions of clips with any status, one per clip, level and variant: as the captioner wrote them and people
    judged them, see `curate.dataset.judged`.

    Args:
        layout: of the dataset.
        cut: rows of tables/shards, or of the index: these clips as they are cut now.
        columns: of `CAPTIONS`; None: all.
    """
    few = sorted(cut["clip_id"].to_pylist()) if cut.num_rows <= FEW else None
    return CurrentRecords(layout, columns, few).of(cut, None)


class CurrentRecords:
    """`current_records` of clips that come in tables, in order of id.

    Args:
        layout: of the dataset.
        columns: of `CAPTIONS`; None: all.
        clips: ids in their order; None: of all clips. Little else is read than the rows of these.
    """

    def __init__(
        self, layout: Layout, columns: Sequence[str] | None = None, clips: Sequence[str] | None = None
    ) -> None:
        self._names = [
            name for name in CAPTIONS.names if columns is None or name in {*KEY, *columns, "status", "text", SOURCE}
        ]
        families = reversed(current_families(layout)[1:])
        self._families = [Follower(_rows(_reader(layout, family), self._names, clips)) for family in families]
        self._human = Follower(_rows(_reader(layout, HUMAN), [*self._names, "prompt_id", "earlier"], clips))

    def of(self, cut: pa.Table, last: str | None) -> pa.Table:
        """The captions of the next clips, up to the id `last`; None: of all that are left."""
        found = [CAPTIONS.empty_table().select(self._names)]
        for family in self._families:
            found.append(of_current(family.until(last), cut).select(self._names))
        (captions,) = last_of_each([sorted_by(pa.concat_tables(found), KEY)], KEY)
        return judged(captions, of_current(self._human.until(last), cut))


def _rows(table: TableReader, columns: Sequence[str], clips: Sequence[str] | None) -> Iterator[pa.Table]:
    if clips is None:
        return table.in_order(columns)
    return chain([table.between("", "", columns)], (table.of(clip_id, columns) for clip_id in clips))


def _reader(layout: Layout, family: str) -> TableReader:
    return TableReader(layout.captions(family), CAPTIONS, KEY, former=FORMER)
