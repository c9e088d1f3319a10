"""The parts of the page that say what became of every file and clip: funnel and failures. Every text is escaped."""

import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.report.cards import name_of, span_of
from curate.report.data import DatasetView
from curate.schema import RETRYABLE, said_of

MAX_EXAMPLES = 20
NUM_OPEN_EXAMPLES = 3


def funnel(view: DatasetView) -> str:
    """Bars from inputs to encoded clips: files by one measure, clips by another."""
    num_files, num_failed, num_clips = view.num_files, view.num_failed_files, view.clips.num_rows
    forgotten = f"{view.num_forgotten:,} more were forgotten" if view.num_forgotten else ""
    files = [
        _bar("files in", num_files, num_files, "other", forgotten),
        _bar("read as video", num_files - num_failed, num_files, "kept", _link(num_failed, "failed", "failures")),
    ]
    clips = [
        _bar("shots found", num_clips, num_clips, "other"),
        _bar("kept", view.count("keep"), num_clips, "kept", _set_aside(view)),
        _bar("cut into shards", view.index.num_rows, num_clips, "kept"),
        _bar("captioned", view.num_captioned, num_clips, "kept"),
        _bar("encoded", view.num_encoded, num_clips, "kept"),
    ]
    reasons = view.reasons()
    rules = [
        _bar(f"<code>{escape(reason)}</code>", count, num_clips, "rejected", f"{alone:,} by this rule alone")
        for reason, count, alone in reasons
    ]
    table = f'<h3>Rejected by rule</h3><div class="bars">{"".join(rules)}</div>' if rules else ""
    return f'<div class="bars">{"".join(files)}</div><div class="bars">{"".join(clips)}</div>{table}'


def failures(view: DatasetView) -> str:
    """Typed failures of files and clips by kind, with examples and what to do about them; empty without any."""
    if not view.failures:
        return ""
    by_kind: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in sorted(view.failures, key=lambda row: row["subject"]):
        by_kind[row["kind"]].append(row)
    kinds = sorted(by_kind, key=lambda kind: (-len(by_kind[kind]), kind))
    examples = [row["subject"] for kind in kinds for row in by_kind[kind][:MAX_EXAMPLES]]
    clips = view.clips.filter(pc.is_in(view.clips["clip_id"], pa.array(examples, pa.string()))).to_pylist()
    names = {row["clip_id"]: f"{name_of(row['video_uri'])} {span_of(row)}" for row in clips}
    body = "".join(_failures_of_kind(view, kind, by_kind[kind], names) for kind in kinds)
    head = "<tr><th>kind</th><th>how many</th><th>for example</th><th>to try again</th></tr>"
    again = escape(shlex.join(["reelpack", "retry", view.url]))
    note = (
        f'<p class="muted"><code>{again}</code> attempts again what may end differently on the same bytes; '
        "the others after the files, or what reads them, changed.</p>"
        if any(kind in RETRYABLE for kind in kinds)
        else ""
    )
    return (
        f'{note}<div class="scroll"><table class="failures"><thead>{head}</thead><tbody>{body}</tbody></table></div>'
    )


def _failures_of_kind(
    view: DatasetView, kind: str, rows: Sequence[Mapping[str, Any]], names: Mapping[str, str]
) -> str:
    steps = sorted({row["step"] for row in rows})
    lines = [
        f"<li>{names.get(row['subject']) or name_of(row['subject'])} "
        f'<span class="muted">{escape(said_of(row["subject"], row["detail"] or ""))}</span></li>'
        for row in rows[:MAX_EXAMPLES]
    ]
    shown = f"<ul>{''.join(lines[:NUM_OPEN_EXAMPLES])}</ul>"
    if len(lines) > NUM_OPEN_EXAMPLES:
        left_out = f"<li>and {len(rows) - MAX_EXAMPLES:,} more</li>" if len(rows) > MAX_EXAMPLES else ""
        rest = f"<ul>{''.join(lines[NUM_OPEN_EXAMPLES:])}{left_out}</ul>"
        shown += f"<details><summary>{len(rows) - NUM_OPEN_EXAMPLES:,} more</summary>{rest}</details>"
    command = escape(shlex.join(["reelpack", "retry", view.url, "--kind", kind]))
    nature = "may pass on another attempt" if kind in RETRYABLE else "the same bytes will fail again"
    return (
        f'<tr><td><code class="kind">{escape(kind)}</code><br><span class="muted">{", ".join(map(escape, steps))}'
        f"</span></td><td>{len(rows):,}</td><td>{shown}</td>"
        f'<td><code>{command}</code><br><span class="muted">{nature}</span></td></tr>'
    )


def _bar(label: str, count: int, total: int, css: str, note: str = "") -> str:
    share = 100 * count / total if total else 0
    return (
        f'<div class="bar"><span class="label">{label}</span><span class="track"><i class="{css}" '
        f'style="width:{share:.2f}%"></i></span><b>{count:,}</b><span class="muted">{note}</span></div>'
    )


def _set_aside(view: DatasetView) -> str:
    parts = [
        _link(view.count("reject"), "rejected", "rejected"),
        _link(view.count("failed"), "failed", "failures"),
        f"{view.count('pending'):,} pending" if view.count("pending") else "",
    ]
    return ", ".join(part for part in parts if part)


def _link(count: int, word: str, anchor: str) -> str:
    return f'<a href="#{anchor}">{count:,} {word}</a>' if count else ""
