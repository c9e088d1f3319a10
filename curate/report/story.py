"""The story of a decision on a clip's card: every rule with the clip's value, its bound and what it says, then the
copies of the clip. Every text is escaped."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from curate.report.cards import DECISION_NAMES, name_of, span_of, value_text
from curate.report.data import DatasetView
from curate.report.duplicates import shown_members, state_of, why
from curate.verdict import rule_for, verdict

MAX_COPIES = 6
MARKS = {"passes": "✓", "fails": "✗", "missing": "?"}
COPY = {"keep": "best copy", "duplicate": "copy"}
Row = Mapping[str, Any]


def story(view: DatasetView, row: Row, group: Sequence[Row]) -> str:
    """Why a clip was decided as it was.

    Args:
        view: the dataset.
        row: of clips.parquet.
        group: the rows of its duplicate group, itself among them; empty without copies.
    """
    lines = [_rule(view, row, name) for name in view.rules]
    body = "".join(sorted(filter(None, lines), key=lambda line: 'class="fails"' not in line))  # what decided is first
    head = "<thead><tr><th>rule</th><th>value</th><th>passes</th><th></th></tr></thead>"
    table = f'<div class="scroll"><table class="story">{head}<tbody>{body}</tbody></table></div>' if body else ""
    return f"{_decision(row)}{table}{_copies(row, group)}"


def _decision(row: Row) -> str:
    decided = DECISION_NAMES.get(row["decision"], str(row["decision"])).capitalize()
    reasons = " ".join(f'<code class="reason">{escape(reason)}</code>' for reason in row["reasons"])
    said = {"keep": "every rule passes", "pending": "a value is not known yet"}.get(row["decision"], "")
    return f"<p><b>{escape(decided)}</b>: {reasons or said}</p>"


def _rule(view: DatasetView, row: Row, name: str) -> str:
    rule = rule_for(name, view.rules[name], is_image=row["kind"] == "image")
    if rule is None or not rule.sides:
        return ""
    value, said = row.get(name), verdict(name, row.get(name), rule)
    passes = escape(rule.said(view.given_rules[name].relative))
    mark = f'<span title="{said}" role="img" aria-label="{said}">{MARKS.get(said, "")}</span>'
    cells = (f"<code>{escape(name)}</code>", value_text(value), passes, mark)
    return f'<tr class="{said}">{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def _copies(row: Row, group: Sequence[Row]) -> str:
    if len(group) < 2:
        return ""
    items = "".join(
        f'<li><b class="{state_of(one)}">{COPY.get(state_of(one), state_of(one))}</b> {one["width"]}×{one["height"]} '
        f"{name_of(one['video_uri'])} {span_of(one)}{', this clip' if one['clip_id'] == row['clip_id'] else ''}</li>"
        for one in shown_members(group, MAX_COPIES)
    )
    more = f"<li>and {len(group) - MAX_COPIES:,} more</li>" if len(group) > MAX_COPIES else ""
    return f'<p>{len(group):,} copies: {escape(why(group))}</p><ul class="copies-of">{items}{more}</ul>'
