"""Levels of captions, how they end, and where they are in an index."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.ordered import sorted_by
from curate.schema import content_digest

CaptionLevel = Literal["short", "dense", "fields", "original", "human"]
"""`short`: the main subject and what it does (DALL·E 3 section 2.1, "short synthetic captions"). `dense`: everything
that can be seen ("descriptive synthetic captions"). `fields`: a JSON object, see `caption.fields`. `original`: the
user's own text. `human`: what a person wrote in the review."""
LEVELS: tuple[CaptionLevel, ...] = get_args(CaptionLevel)
TEXT_LEVELS: tuple[CaptionLevel, ...] = ("short", "dense", "original", "human")
"""Levels whose texts condition a model; `fields` is what they are composed from."""
MOST_DETAILED: tuple[CaptionLevel, ...] = ("human", "dense", "short", "original")
"""The order in which the one caption of a clip is chosen, where only one is used."""


class CaptionStatus(StrEnum):
    """How a caption ended, from the best to the worst."""

    OK = "ok"
    TRUNCATED = "truncated"
    """The token limit cuts the text off. It is not used, unless `caption.checks.truncated.use` says so."""
    REJECTED = "rejected"
    """A check or a person rejects the text. It is stored and not used."""
    EMPTY = "empty"
    """The model wrote nothing."""
    UNSURE = "unsure"
    """The model does not know what such frames show: it was not asked."""
    BLANK = "blank"
    """The frames show nothing: the model was not asked."""


USABLE = frozenset({CaptionStatus.OK})
"""Statuses of captions whose text is used."""


TO_RETRY = frozenset({CaptionStatus.REJECTED, CaptionStatus.TRUNCATED, CaptionStatus.EMPTY})
"""Statuses of captions for which the model was asked, and no attempt passed."""


MATCH = "caption_match"
"""Reason code of the text–clip score, and the column of clips.parquet that has it."""


def caption_column(level: str) -> str:
    """Column of an index with the text of the captions of this level, null where a clip has none."""
    return f"caption_{level}"


CAPTION_COLUMNS = [caption_column(level) for level in LEVELS]
"""Columns of an index: variant 0 of each level."""


def text_name(level: str, variant: int = 0) -> str:
    """Name of a text of a clip, such as of its embedding: `dense`, and `dense.2` for the second variant."""
    return f"{level}.{variant}" if variant else level


def text_id(clip_id: str, level: str, text: str) -> str:
    """Names a text of a clip, as a parent of others."""
    return content_digest("caption text", clip_id, level, text)[:16]


def level_of(name: str) -> str:
    """The level in a `text_name`."""
    return name.partition(".")[0]


def usable(records: pa.Table) -> pa.Table:
    """The rows of tables/captions whose text is used."""
    return records.filter(pc.is_in(records["status"], pa.array(sorted(USABLE))))


def matches(records: pa.Table) -> pa.Table:
    """`clip_id`, unique, and `caption_match`: the stored text–clip score of the clip's dense caption, of the short one
    where there is no dense one; null where none is stored.

    Args:
        records: rows of tables/captions, one per clip, level and variant.
    """
    chosen = pc.and_(pc.equal(records["variant"], 0), pc.is_in(records["level"], pa.array(["dense", "short"])))
    rows = records.select(["clip_id", "level", "findings"]).filter(chosen)
    # Sorted by level: of a clip's two the dense one comes first.
    rows = sorted_by(rows, ["clip_id", "level"])
    ids = rows["clip_id"].combine_chunks()
    is_first = np.append(True, np.asarray(pc.not_equal(ids[1:], ids[:-1]))) if len(ids) else np.zeros(0, bool)
    rows = rows.filter(pa.array(is_first))
    findings = rows["findings"].combine_chunks()
    found, owner = pc.list_flatten(findings), pc.list_parent_indices(findings)
    is_match = pc.equal(pc.struct_field(found, "code"), MATCH)
    owners, first = np.unique(np.asarray(owner.filter(is_match)), return_index=True)
    values = pc.struct_field(found, "value").filter(is_match).take(pa.array(first))
    places = pc.index_in(pa.array(np.arange(rows.num_rows)), pa.array(owners, pa.int64()))
    return pa.table({"clip_id": rows["clip_id"].cast(pa.string()), MATCH: values.take(places)})


def reason_of(record: Mapping[str, Any]) -> str:
    """Why a row of tables/captions has its status: the findings that give it. Its status alone where none is stored,
    as in rows of an earlier reelpack."""
    found = [found["detail"] for found in record["findings"] or () if found["status"] == record["status"]]
    return "; ".join(found) or record["status"]


def texts_of(row: Mapping[str, Any]) -> dict[str, str]:
    """Caption level → text, of an index row, without `fields`; empty where the clip has no caption."""
    return {level: text for level in TEXT_LEVELS if (text := row.get(caption_column(level)))}
