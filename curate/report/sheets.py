"""Cards of clips with their strips and stories, on sheets; and which clips are on a sheet."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from curate.dataset.layout import Layout
from curate.report.against import Against
from curate.report.cards import clip_card, sheet
from curate.report.compared import line_of
from curate.report.data import DatasetView
from curate.report.filmstrip import NUM_FRAMES, Strip, strips_of_clips
from curate.report.story import story

Row = Mapping[str, Any]


def sheet_of(
    view: DatasetView,
    rows: Sequence[Row],
    total: int,
    scores: Sequence[str],
    media: Mapping[str, str],
    reasons: Sequence[str] = (),
    against: Against | None = None,
) -> str:
    """A sheet of cards of these rows, in their order, with their frames inside the page.

    Args:
        view: the dataset.
        rows: of clips.parquet.
        total: how many there are of their kind.
        scores: names of the numbers on a card.
        media: clip id → where it plays from, relative to the page.
        reasons: what the sheet can be filtered by.
        against: another decision, which each card tells.
    """
    members = view.members([row["clip_id"] for row in rows])
    strips = strips_of_clips(rows, members, Layout(view.url).shards, NUM_FRAMES)
    note = view.caption_note if view.num_captioned else None
    warning = f'<p class="muted">The captions are by {escape(note)}.</p>' if note else ""
    return warning + sheet(
        cards_of(view, rows, members, strips, scores, media, against=against), total, scores, reasons
    )


def cards_of(
    view: DatasetView,
    rows: Sequence[Row],
    members: Mapping[str, Row],
    strips: Mapping[str, Strip | str],
    scores: Sequence[str],
    media: Mapping[str, str],
    *,
    against: Against | None = None,
    is_served: bool = False,
) -> list[str]:
    """HTML of a card for each row; see `sheet_of`.

    Args:
        members: clip id → row of the index.
        strips: clip id → its strip.
        against: another decision, which each card tells.
        is_served: see `clip_card`.
    """
    there = against.rows(row["clip_id"] for row in rows) if against else {}
    own, has_captions, groups = view.own_names(), bool(view.num_captioned), view.groups_of(rows)
    values = [*scores, *view.text_scores()]
    return [
        clip_card(
            row,
            members.get(row["clip_id"]),
            strips[row["clip_id"]],
            values,
            {name: str(row[name]) for name in own if row[name] not in (None, "")},
            has_captions=has_captions,
            caption_note=view.caption_note,
            story=story(view, row, groups.get(row.get("duplicate_group") or "", ())),
            media=media.get(row["clip_id"], ""),
            against=line_of(against, row, there.get(row["clip_id"])) if against else "",
            is_served=is_served,
        )
        for row in rows
    ]


def choose(reasons: Sequence[Sequence[str]], limit: int) -> list[int]:
    """Positions of at most `limit` clips, in order: a fair share of each first reason, evenly spread inside it."""
    groups: dict[str, list[int]] = defaultdict(list)
    for position, why in enumerate(reasons):
        groups[why[0] if why else ""].append(position)
    chosen: list[int] = []
    waiting = sorted(groups.values(), key=len)
    while waiting:
        group = waiting.pop(0)
        share = min(len(group), (limit - len(chosen)) // (len(waiting) + 1))
        chosen += [group[index * len(group) // share] for index in range(share)]
    return sorted(chosen)
