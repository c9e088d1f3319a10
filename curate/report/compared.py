"""What a report and another decision decide differently, as HTML: on a card, and in counts. Every text is escaped."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, get_args

import pyarrow as pa
import pyarrow.compute as pc

from curate.report.against import Against, Differing, packed
from curate.report.cards import DECISION_NAMES

MAX_REASONS = 8
Row = Mapping[str, Any]


def line_of(against: Against, row: Row, there: Row | None) -> str:
    """HTML on a card: how the other decides this clip, and why.

    Args:
        against: the other.
        row: of clips.parquet.
        there: of `Against.rows`; None: the other does not have the clip.
    """
    name = escape(against.name)
    if there is None:
        differs = "here absent" if row["decision"] == "keep" else "absent"
        return f'<p class="against" data-differs="{differs}"><span class="muted">not in {name}</span></p>'
    differs = ""
    if there["decision"] != row["decision"]:
        kept = {"here": row["decision"], "there": there["decision"]}
        differs = " ".join(["any", *(side for side, decision in kept.items() if decision == "keep")])
    decided = f'<b class="{escape(there["decision"])}">{DECISION_NAMES[there["decision"]]}</b>'
    reasons = " ".join(
        f'<code class="reason">{escape(_bounded(against, reason))}</code>' for reason in there["reasons"]
    )
    return f'<p class="against" data-differs="{differs}">{name}: {decided} {reasons}</p>'


def _bounded(against: Against, reason: str) -> str:
    """A reason with the bound of the other's policy: `motion.min 0.01`."""
    column, _, side = reason.rpartition(".")
    bound = getattr(against.rules.get(column), side, None) if side in ("min", "max") else None
    return reason if bound is None else f"{reason} {bound:g}"


def compared(against: Against) -> str:
    """HTML: what the two decide differently, in counts, each of which shows the clips that it counts; then why."""
    name, masks = escape(against.name), against.masks
    kept_there = int(pc.sum(pc.equal(against.clips["decision"], "keep")).as_py() or 0)
    said = {
        "any": "decided differently",
        "here": "kept only here",
        "there": f"kept only in {name}",
        "absent": f"not in {name}",
    }
    chips = "".join(
        f'<button type="button" class="chip" data-differ="{key}">{int(masks[key].sum()):,} {said[key]}</button>'
        for key in get_args(Differing)
        if masks[key].any()
    )
    head = (
        f"<p><b>{name}</b> keeps {kept_there:,} of {against.clips.num_rows:,} clips, this report {_here(against)}.</p>"
    )
    beyond = against.beyond
    more = f"{int(pc.sum(pc.equal(beyond['decision'], 'keep')).as_py() or 0):,} of them kept" if len(beyond) else ""
    only = f'<p class="muted">{len(beyond):,} clips are only in {name}, {more}.</p>' if more else ""
    same = "" if chips else '<p class="muted">Both decide every clip the same.</p>'
    return f'<div class="compared">{head}<div class="chips">{chips}</div>{same}{only}{_why(against)}</div>'


def _here(against: Against) -> str:
    return f"{against.view.count('keep'):,} of {against.view.clips.num_rows:,}"


def _why(against: Against) -> str:
    """What the other side says of the clips that one side alone keeps, and the settings that differ."""
    here = against.view.clips.filter(pa.array(against.masks["there"]))
    ids = against.view.clips["clip_id"].filter(pa.array(against.masks["here"]))
    there = against.clips.filter(pc.is_in(against.clips["clip_id"], ids.combine_chunks()))
    absent = len(ids) - len(there)
    tables = [
        _reasons(
            f"kept only here: {against.name} says", _first_reasons(there) | ({"not there": absent} if absent else {})
        ),
        _reasons(f"kept only in {against.name}: this report says", _first_reasons(here)),
        _listed(f"settings of {against.name} that are others here", against.settings),
    ]
    shown = "".join(tables)
    return f'<details><summary>why</summary><div class="whys">{shown}</div></details>' if shown else ""


def _reasons(title: str, counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rows = [f"<code>{escape(reason)}</code> {count:,}" for reason, count in ordered[:MAX_REASONS]]
    rest = sum(count for _, count in ordered[MAX_REASONS:])
    return _list(title, [*rows, *([f"others {rest:,}"] if rest else [])])


def _listed(title: str, texts: Sequence[str]) -> str:
    return _list(title, [f"<code>{escape(text)}</code>" for text in texts])


def _list(title: str, items: Sequence[str]) -> str:
    listed = "".join(f"<li>{item}</li>" for item in items)
    return f"<div><h3>{escape(title)}</h3><ul>{listed}</ul></div>" if items else ""


def _first_reasons(clips: pa.Table) -> dict[str, int]:
    """First reason of the rejected clips, or the decision of the others → how many."""
    lists = pc.if_else(pc.equal(clips["decision"], "reject"), clips["reasons"], None)
    has_any = pc.fill_null(pc.greater(pc.list_value_length(lists), 0), False)
    counts: dict[str, int] = {}
    for texts in (pc.list_element(lists.filter(has_any), 0), clips["decision"].filter(pc.invert(has_any))):
        for one in pc.value_counts(texts).to_pylist():
            counts[one["values"]] = counts.get(one["values"], 0) + one["counts"]
    return counts


def laid(against: Against) -> str:
    """What explorer.js lays over its panels, inside the page."""
    # "<" could end the script element.
    data = json.dumps(packed(against), separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="against-data">{data}</script>'
