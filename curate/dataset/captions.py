"""Kinds of captions, how they end, and where they are in an index."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc

CaptionKind = Literal["short", "dense"]
KINDS: tuple[CaptionKind, ...] = get_args(CaptionKind)


class CaptionStatus(StrEnum):
    """How a caption ended. A truncated one is used, and says here that it is unfinished; the others have no text."""

    OK = "ok"
    TRUNCATED = "truncated"
    EMPTY = "empty"
    BLANK = "blank"
    """The frames show nothing: the model was not asked."""
    UNSURE = "unsure"
    """The model does not know what such frames show: it was not asked."""


USABLE = frozenset({CaptionStatus.OK, CaptionStatus.TRUNCATED})
"""Statuses of captions whose text is used."""


def caption_column(kind: str) -> str:
    """Column of an index with the text of the captions of this kind, null where a clip has none."""
    return f"caption_{kind}"


CAPTION_COLUMNS = [caption_column(kind) for kind in KINDS]


def usable(records: pa.Table) -> pa.Table:
    """The rows of tables/captions whose text is used."""
    return records.filter(pc.is_in(records["status"], pa.array(sorted(USABLE))))


def texts_of(row: Mapping[str, Any]) -> dict[str, str]:
    """Caption kind → text, of an index row; empty where the clip has no caption."""
    return {kind: text for kind in KINDS if (text := row[caption_column(kind)])}
