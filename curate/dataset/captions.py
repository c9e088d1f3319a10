"""Kinds of captions, how they end, and where they are in an index."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc

CaptionKind = Literal["short", "dense"]
KINDS: tuple[CaptionKind, ...] = get_args(CaptionKind)


class CaptionStatus(StrEnum):
    """How a caption ended, from the best to the worst."""

    OK = "ok"
    TRUNCATED = "truncated"
    """The token limit cuts the text off. It is used."""
    REJECTED = "rejected"
    """A check rejects the text. It is stored and not used."""
    EMPTY = "empty"
    """The model wrote nothing."""
    UNSURE = "unsure"
    """The model does not know what such frames show: it was not asked."""
    BLANK = "blank"
    """The frames show nothing: the model was not asked."""


USABLE = frozenset({CaptionStatus.OK, CaptionStatus.TRUNCATED})
"""Statuses of captions whose text is used."""


def caption_column(kind: str) -> str:
    """Column of an index with the text of the captions of this kind, null where a clip has none."""
    return f"caption_{kind}"


CAPTION_COLUMNS = [caption_column(kind) for kind in KINDS]


def usable(records: pa.Table) -> pa.Table:
    """The rows of tables/captions whose text is used."""
    return records.filter(pc.is_in(records["status"], pa.array(sorted(USABLE))))


def reason_of(record: Mapping[str, Any]) -> str:
    """Why a row of tables/captions has its status: the findings that give it. Its status alone where none is stored,
    as in rows of an earlier reelpack."""
    found = [found["detail"] for found in record["findings"] or () if found["status"] == record["status"]]
    return "; ".join(found) or record["status"]


def texts_of(row: Mapping[str, Any]) -> dict[str, str]:
    """Caption kind → text, of an index row; empty where the clip has no caption."""
    return {kind: text for kind in KINDS if (text := row[caption_column(kind)])}
