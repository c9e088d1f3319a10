"""Captions and what people judged of them: a judgment counts for the text that was judged, an edit for any."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.captions import TO_RETRY, CaptionStatus, usable

HUMAN = "human"
"""Family of the captions that people wrote or judged in the review."""
EDITED = "review/edit"
"""`prompt_id` of a text that a person wrote. It replaces the clip's caption of its level and variant, also after
the captioner writes another."""
ACCEPTED, REJECTED = "review/accept", "review/reject"
"""`prompt_id` of a text that a person judged: it counts as long as the clip has this very text."""


def judged(captions: pa.Table, human: pa.Table) -> pa.Table:
    """The captions with the edits in their places, and with the status that people gave them.

    Args:
        captions: `clip_id`, `level`, `variant`, `text`, `status` and other columns; one row per clip, level, variant.
        human: rows of the review's table, likewise, with `prompt_id` and `earlier`.

    Returns:
        The columns of `captions`; the rows of edits come last.
    """
    if not human.num_rows:
        return captions
    rows = dict(zip(_keys(human), human.to_pylist(), strict=True))
    edited = {key for key, row in rows.items() if row["prompt_id"] == EDITED}
    keys, given = _keys(captions), _judgments(rows)
    rows_of = zip(keys, captions["text"].to_pylist(), captions["status"].to_pylist(), strict=True)
    statuses = [given[key].get(text, status) if key in given else status for key, text, status in rows_of]
    place, field = captions.column_names.index("status"), captions.schema.field("status")
    captions = captions.set_column(place, field, pa.array(statuses, field.type))
    captions = captions.filter(pa.array([key not in edited for key in keys], pa.bool_()))
    edits = human.filter(pa.array([key in edited for key in rows], pa.bool_()))
    return pa.concat_tables([captions, edits.select(captions.column_names)])


def unsettled(captions: pa.Table, human: pa.Table) -> pa.Table:
    """The captions that a captioner should attempt again: no attempt passed, and no person accepted or replaced the
    text. Variants are not among them, because no model writes them.

    Args:
        captions, human: as for `judged`.
    """
    no_variant, to_retry = pc.equal(captions["variant"], 0), pc.is_in(captions["status"], pa.array(sorted(TO_RETRY)))
    found = captions.filter(pc.and_(no_variant, to_retry))
    known = found.select(["clip_id", "level", "variant", "text", "status"])
    settled = set(_keys(usable(judged(known, human))))
    return found.filter(pa.array([key not in settled for key in _keys(found)], pa.bool_()))


def _judgments(rows: Mapping[Any, Mapping[str, Any]]) -> Mapping[Any, Mapping[str, str]]:
    """Key → text → status. Texts that were judged before the last one keep what they were given."""
    given: dict[Any, dict[str, str]] = defaultdict(dict)
    for key, row in rows.items():
        for attempt in row["earlier"] or ():
            given[key][attempt["text"]] = _status(attempt["codes"][0])
        if row["prompt_id"] != EDITED:
            given[key][row["text"]] = _status(row["prompt_id"])
    return given


def _status(prompt_id: str) -> str:
    return str(CaptionStatus.REJECTED if prompt_id == REJECTED else CaptionStatus.OK)


def _keys(table: pa.Table) -> list[tuple[str, str, int]]:
    return list(zip(*(table[name].to_pylist() for name in ("clip_id", "level", "variant")), strict=True))
