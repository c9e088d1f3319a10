"""The parts of the page that show a dataset: funnel, failures, contact sheets, scores. Every text is escaped."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import pyarrow.compute as pc

from curate.report.charts import histogram, number
from curate.report.data import DatasetView
from curate.report.film import Strip


def funnel(view: DatasetView) -> str:
    """Bars from inputs to encoded clips: files by one measure, clips by another."""
    num_files, num_failed, num_clips = view.num_files, view.num_failed_files, view.clips.num_rows
    files = [
        _bar("files in", num_files, num_files, "other"),
        _bar("read as video", num_files - num_failed, num_files, "kept", _link(num_failed, "failed", "failures")),
    ]
    clips = [
        _bar("shots found", num_clips, num_clips, "other"),
        _bar("kept", view.count("keep"), num_clips, "kept", _set_aside(view)),
        _bar("cut into shards", view.index.num_rows, num_clips, "kept"),
        _bar("captioned", len(view.captioned), num_clips, "kept"),
        _bar("encoded", len(view.encoded & view.cut), num_clips, "kept"),
    ]
    reasons = view.reasons()
    rules = [
        _bar(f"<code>{escape(reason)}</code>", count, num_clips, "rejected", f"{alone} by this rule alone")
        for reason, count, alone in reasons
    ]
    table = f'<h3>Rejected by rule</h3><div class="bars">{"".join(rules)}</div>' if rules else ""
    return f'<div class="bars">{"".join(files)}</div><div class="bars">{"".join(clips)}</div>{table}'


def failures(view: DatasetView) -> str:
    """Typed failures of files and clips with what to do about them; empty without any."""
    rows = sorted(view.failures, key=lambda row: (row["kind"], row["subject"]))
    if not rows:
        return ""
    counts = Counter(row["kind"] for row in rows)
    chips = " ".join(f'<span class="chip">{escape(kind)} {count}</span>' for kind, count in counts.most_common())
    body = "".join(
        f"<tr><td><code>{escape(row['kind'])}</code></td><td>{_name(row['subject'])}</td>"
        f"<td>{escape(row['step'])}</td><td>{escape(row['detail'] or '')}{_retry(row)}</td></tr>"
        for row in rows
    )
    head = "<tr><th>kind</th><th>what</th><th>step</th><th>detail</th></tr>"
    return f'<p>{chips}</p><div class="scroll"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'


def clip_card(
    row: Mapping[str, Any], member: Mapping[str, Any] | None, strip: Strip | str, scores: Sequence[str]
) -> str:
    """One clip: frames, caption or reasons, facts, and all its scores on expanding."""
    values = {name: row[name] for name in scores if row[name] is not None}
    caption = (member or {}).get("caption_short") or (member or {}).get("caption_dense")
    dense = (member or {}).get("caption_dense")
    reasons = "".join(f'<code class="reason">{escape(reason)}</code> ' for reason in row["reasons"])
    if caption:
        title = f'<p class="caption" title="{escape(dense or "")}">{escape(caption)}</p>'
    elif reasons:
        title = f'<p class="caption">{reasons}</p>'
    else:
        title = '<p class="caption none">no caption yet</p>'
    table = "".join(f"<div><dt>{escape(name)}</dt><dd>{number(value)}</dd></div>" for name, value in values.items())
    shown = {**values, "start": row["start_s"], "duration": row["end_s"] - row["start_s"]}
    return (
        f'<article class="clip" data-reasons="{escape(" ".join(row["reasons"]))}"'
        f' data-values="{escape(json.dumps(shown))}">{film(strip, caption or row["clip_id"])}{title}'
        f'<p class="facts">{_name(row["video_uri"])} {_facts(row)}</p><details><summary>more</summary>'
        f"{f'<p>{escape(dense)}</p>' if dense else ''}<dl>{table}</dl>"
        f'<p class="facts">clip <code>{row["clip_id"]}</code></p></details></article>'
    )


def film(strip: Strip | str, label: str, *, with_screen: bool = True) -> str:
    """A screen with one frame and, under it, every frame of the strip; pointing at a frame shows it."""
    if isinstance(strip, str):
        return f'<div class="film"><div class="stage missing"><span>{escape(strip)}</span></div></div>'
    step = 100 / (strip.num_frames - 1) if strip.num_frames > 1 else 0
    style = f"--strip:url({strip.uri});--n:{strip.num_frames};--step:{step:.4f}%;--ratio:{strip.ratio:.4f}"
    buttons = "".join(
        f'<button class="frame" style="--at:{index}" aria-label="frame {index + 1} of {strip.num_frames}"></button>'
        for index in range(strip.num_frames)
    )
    row = f'<div class="frames">{buttons}</div>' if strip.num_frames > 1 else ""
    shape = "wide" if strip.ratio >= 16 / 9 else "tall"
    screen = f'<div class="stage"><div class="screen {shape}" role="img" aria-label="{escape(label)}"></div></div>'
    return f'<div class="film" style="{style}">{screen if with_screen else ""}{row}</div>'


def sheet(cards: Sequence[str], total: int, scores: Sequence[str], reasons: Iterable[str] = ()) -> str:
    """A grid of cards with its controls: sort by a score, and one filter per reason."""
    options = "".join(f"<option>{escape(name)}</option>" for name in ("start", "duration", *scores))
    filters = "".join(f'<button class="chip" data-reason="{escape(name)}">{escape(name)}</button>' for name in reasons)
    shown = f"{len(cards)} of {total:,} shown" if len(cards) < total else f"{total:,} shown"
    sort = f"<label>sort by <select><option value=''>file and time</option>{options}</select></label>"
    return (
        f'<div class="sheet"><div class="controls"><span class="muted">{shown}</span>{sort}{filters}</div>'
        f'<div class="grid">{"".join(cards)}</div></div>'
    )


def histograms(view: DatasetView) -> str:
    """One histogram per stored score, with the policy's thresholds; a score that never varies is named in one line."""
    is_kept = pc.equal(view.clips["decision"], "keep").to_numpy()
    figures, constants = [], []
    for name in view.score_names():
        values = view.clips[name].cast("float64").to_numpy()  # null becomes NaN
        finite = np.isfinite(values)
        kept, other = values[finite & is_kept], values[finite & ~is_kept]
        if view.bounds(name) == (None, None) and len(np.unique(values[finite])) == 1:
            constants.append(f"{escape(name)} {number(values[finite][0])}")
            continue
        missing = len(values) - int(finite.sum())
        note = f' <span class="muted">{missing} not measured</span>' if missing else ""
        chart = histogram(kept, other, view.bounds(name))
        figures.append(f"<figure><figcaption><b>{escape(name)}</b>{note}</figcaption>{chart}</figure>")
    legend = (
        '<p class="muted"><i class="key kept"></i>kept <i class="key other"></i>not kept '
        '<i class="key limit"></i>threshold of the policy</p>'
    )
    charts = f'{legend}<div class="charts">{"".join(figures)}</div>' if figures else ""
    return charts + (f'<p class="muted">The same for every clip: {", ".join(constants)}.</p>' if constants else "")


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
        f"{view.count('pending')} pending" if view.count("pending") else "",
    ]
    return ", ".join(part for part in parts if part)


def _link(count: int, word: str, anchor: str) -> str:
    return f'<a href="#{anchor}">{count:,} {word}</a>' if count else ""


def _facts(row: Mapping[str, Any]) -> str:
    size = f"{row['width']}×{row['height']}"
    if row["kind"] == "image":
        return f"· image · {size} · {row['split']}"
    span = f"{_clock(row['start_s'])}–{_clock(row['end_s'])}"
    length = f"{row['end_s'] - row['start_s']:.2f} s, {row['num_frames']} frames at {row['fps']:.4g} fps"
    return f"· {span} · {length} · {size} · {row['split']}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}:{rest:05.2f}"


def _name(uri: str) -> str:
    """The last part of a URI, with the whole of it on hover."""
    return f'<span title="{escape(uri)}">{escape(uri.rstrip("/").rpartition("/")[2])}</span>'


def _retry(row: Mapping[str, Any]) -> str:
    """The command that may end differently on the same bytes; nothing where it cannot."""
    if not row["retryable"] or not row["retry_command"]:
        return ""
    return f'<br><span class="muted">to retry:</span> <code>{escape(row["retry_command"])}</code>'
