"""Duplicate groups side by side: the copies of a clip, which one was kept, and what it has over the others."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import pyarrow.compute as pc

from curate.dedup.best import ADVANTAGES, quality
from curate.report.cards import name_of, span_of, thumbnail
from curate.report.data import DatasetView
from curate.report.filmstrip import Strip

MAX_GROUPS = 24
MAX_MEMBERS = 8
Row = Mapping[str, Any]


def shown_groups(view: DatasetView) -> list[list[Row]]:
    """The members of at most `MAX_GROUPS` groups, the largest groups first, each from the best copy to the worst."""
    if "duplicate_group" not in view.clips.column_names:
        return []
    clips = view.clips.filter(pc.is_valid(view.clips["duplicate_group"]))
    sizes = clips.group_by("duplicate_group").aggregate([("clip_id", "count")])
    sizes = sizes.sort_by([("clip_id_count", "descending"), ("duplicate_group", "ascending")])
    chosen = sizes["duplicate_group"].slice(0, MAX_GROUPS).combine_chunks()
    members: dict[str, list[Row]] = defaultdict(list)
    for row in clips.filter(pc.is_in(clips["duplicate_group"], chosen)).to_pylist():
        members[row["duplicate_group"]].append(row)
    return [sorted(members[name], key=quality, reverse=True) for name in chosen.to_pylist()]


def shown_members(group: Sequence[Row], limit: int = MAX_MEMBERS) -> list[Row]:
    """At most `limit`: the kept one first, then the copies that it was kept instead of."""
    order = {"keep": 0, "duplicate": 1}
    return sorted(group, key=lambda row: order.get(state_of(row), 2))[:limit]


def duplicates(view: DatasetView, groups: Sequence[Sequence[Row]], strips: Mapping[str, Strip | str]) -> str:
    """A row of copies per group; empty where nothing has a copy."""
    if not groups:
        return ""
    name = view.clips["duplicate_group"]
    num_groups, num_members = len(name.drop_null().unique()), len(name) - name.null_count
    num_rejected = pc.sum(pc.is_valid(view.clips["duplicate_of"])).as_py()
    shown = f" The {len(groups)} largest are shown." if len(groups) < num_groups else ""
    summary = (
        f"{num_members:,} clips are in {num_groups:,} {'groups' if num_groups > 1 else 'group'} of copies; "
        f"{num_rejected:,} of them would be kept without a better copy.{shown}"
    )
    return f'<p class="muted">{summary}</p><div class="groups">{"".join(_group(g, strips) for g in groups)}</div>'


def _group(group: Sequence[Row], strips: Mapping[str, Strip | str]) -> str:
    members = shown_members(group)
    cards = "".join(_member(row, strips[row["clip_id"]]) for row in members)
    more = f'<p class="muted">and {len(group) - len(members):,} more</p>' if len(members) < len(group) else ""
    css = "group large" if len(members) > 2 else "group"
    return (
        f'<article class="{css}"><p><b>{len(group):,} copies</b> <span class="muted">{why(group)}</span></p>'
        f'<div class="copies">{cards}{more}</div></article>'
    )


def why(group: Sequence[Row]) -> str:
    """Which copy was kept and what decided it, in words."""
    kept = next((row for row in group if state_of(row) == "keep"), None)
    if kept is None:
        return "none is kept: each breaks a rule, failed, or waits for a score"
    others = [row for row in group if row["duplicate_of"] == kept["clip_id"]]
    if not others:
        return "one is kept: the rules keep no other"
    pairs = zip(quality(kept), quality(max(others, key=quality)), ADVANTAGES, strict=False)
    advantage = next((name for ours, theirs, name in pairs if ours != theirs), None)
    if advantage is None:
        return "the copies are equal in all that counts; the id decided"
    return f"kept for {advantage} than the next best"


def state_of(row: Row) -> str:
    """`duplicate` of a copy that another one was kept for, else the decision."""
    return "duplicate" if row["duplicate_of"] is not None else row["decision"]


def _member(row: Row, strip: Strip | str) -> str:
    state = state_of(row)
    words = {"keep": "kept", "duplicate": "copy"}.get(state) or " ".join(row["reasons"]) or state
    facts = [f"{row['width']}×{row['height']}"]
    if row.get("bitrate"):
        facts.append(f"{row['bitrate'] / 1e6:.2f} Mb/s")
    if row.get("letterbox_fraction"):
        facts.append(f"bars {100 * row['letterbox_fraction']:.0f} %")
    facts.append(f"{row['end_s'] - row['start_s']:.2f} s")
    return (
        f'<figure class="copy {escape(state)}">{thumbnail(strip, row["clip_id"])}<figcaption><b>{escape(words)}</b>'
        f"<span>{' · '.join(facts)}</span>"
        f'<span class="muted" title="{escape(row["clip_id"])}">{name_of(row["video_uri"])} {span_of(row)}</span>'
        f"</figcaption></figure>"
    )
