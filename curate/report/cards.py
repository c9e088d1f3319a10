"""A clip on the page: its card with frames, texts and facts, and sheets of such cards. Every text is escaped."""

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from curate.report.charts import number
from curate.report.filmstrip import Strip

DECISION_NAMES = {"keep": "kept", "reject": "rejected", "failed": "failed", "pending": "pending"}


def clip_card(
    row: Mapping[str, Any],
    member: Mapping[str, Any] | None,
    strip: Strip | str,
    scores: Sequence[str],
    own: Mapping[str, str],
    *,
    has_captions: bool,
    caption_note: str | None = None,
    story: str = "",
    media: str = "",
    against: str = "",
    is_served: bool = False,
) -> str:
    """One clip: frames, caption or reasons, the user's columns (`own`), facts, and all its scores on expanding.
    `scores`: names of the values that are listed. `has_captions`: other clips have captions, so a clip without one
    says so.
    `caption_note`: what a reader of the captions must know. `story`: HTML of the decision. `media`: where the clip
    plays from, relative to the page; empty where it does not play. `against`: HTML of another decision.
    `is_served`: the sheet has clips of several decisions, so each says its own, and captions are judged on it."""
    values = {name: row[name] for name in scores if row[name] not in (None, "")}
    caption = (member or {}).get("caption_short") or (member or {}).get("caption_dense")
    dense = (member or {}).get("caption_dense")
    reasons = "".join(f'<code class="reason">{escape(reason)}</code> ' for reason in row["reasons"])
    by = f' <span class="muted" title="by {escape(caption_note)}">demo caption</span>' if caption_note else ""
    decided = escape(row["decision"])
    badge = f'<b class="badge {decided}">{DECISION_NAMES.get(decided, decided)}</b> ' if is_served else ""
    judging = '<details class="judging"><summary>captions</summary></details>' if is_served and member else ""
    if caption:
        title = f'<p class="caption" title="{escape(dense or "")}">{escape(caption)}{by}</p>'
    elif reasons:
        title = f'<p class="caption">{reasons}</p>'
    else:
        title = f'<p class="caption none">{"no caption yet" if has_captions else ""}</p>'
    listed = ((escape(name), value_text(value)) for name, value in values.items())
    table = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in listed)
    theirs = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>" for name, text in own.items())
    theirs = f'<dl class="own">{theirs}</dl>' if theirs else ""
    numbers = {name: value for name, value in values.items() if not isinstance(value, str)}
    shown = {**numbers, "start": row["start_s"], "duration": row["end_s"] - row["start_s"]}
    labels = [value for value in values.values() if isinstance(value, str)]
    words = " ".join([row["video_uri"], row["clip_id"], caption or "", dense or "", *labels, *own.values()]).lower()
    return (
        f'<article class="clip" data-clip="{escape(row["clip_id"])}" data-reasons="{escape(" ".join(row["reasons"]))}"'
        f' data-words="{escape(words)}" data-values="{escape(json.dumps(shown))}">'
        f"{filmstrip(strip, caption or row['clip_id'], row['clip_id'], play=play_button(row, media))}{title}"
        f'{theirs}<p class="facts">{badge}{name_of(row["video_uri"])} {_facts(row)}</p>{against}'
        f"{f'<details><summary>why</summary>{story}</details>' if story else ''}"
        f"{judging}"
        f"<details><summary>more</summary>"
        f"{f'<p>{escape(dense)}{by}</p>' if dense else ''}<dl>{table}</dl>"
        f'<p class="facts">clip <code>{escape(row["clip_id"])}</code></p></details></article>'
    )


def play_button(row: Mapping[str, Any], media: str) -> str:
    """What play.js makes a player of; without `media` it says how clips play."""
    kind = "image" if row["kind"] == "image" else "video"
    return (
        f'<button class="play" data-kind="{kind}" data-media="{escape(media)}" aria-label="play this clip"></button>'
    )


def filmstrip(strip: Strip | str, label: str, clip_id: str = "", *, with_screen: bool = True, play: str = "") -> str:
    """A screen with one frame and, under it, every frame of the strip; pointing at a frame shows it. `play`: HTML of a
    button on the screen."""
    if isinstance(strip, str):
        return f'<div class="film"><div class="stage missing"><span>{escape(strip)}</span>{play}</div></div>'
    step = 100 / (strip.num_frames - 1) if strip.num_frames > 1 else 0
    style = f"--strip:url({strip.uri});--n:{strip.num_frames};--step:{step:.4f}%;--ratio:{strip.ratio:.4f}"
    buttons = "".join(
        f'<button class="frame" style="--at:{index}" aria-label="frame {index + 1} of {strip.num_frames}"></button>'
        for index in range(strip.num_frames)
    )
    row = f'<div class="frames">{buttons}</div>' if strip.num_frames > 1 else ""
    shape = "wide" if strip.ratio >= 16 / 9 else "tall"
    screen = (
        f'<div class="stage"><div class="screen {shape}" role="img" aria-label="{escape(label)}"></div>{play}</div>'
    )
    of = f' data-picture="{escape(clip_id)}"' if clip_id else ""
    return f'<div class="film"{of} style="{style}">{screen if with_screen else ""}{row}</div>'


def thumbnail(strip: Strip | str, clip_id: str) -> str:
    """One frame of a clip, decoded by the browser only when it comes into view."""
    if isinstance(strip, str):
        return f'<span class="thumb missing" title="{escape(strip)}">no picture</span>'
    of = f'data-picture="{escape(clip_id)}" style="--ratio:{strip.ratio:.4f}"'
    return f'<img class="thumb" loading="lazy" decoding="async" alt="" {of} src="{strip.uri}">'


def sheet(cards: Sequence[str], total: int, scores: Sequence[str], reasons: Iterable[str] = ()) -> str:
    """A grid of cards with its controls: search, sort by a score, and one filter per reason."""
    options = "".join(f"<option>{escape(name)}</option>" for name in ("start", "duration", *scores))
    filters = "".join(f'<button class="chip" data-reason="{escape(name)}">{escape(name)}</button>' for name in reasons)
    shown = f"{len(cards)} of {total:,} shown" if len(cards) < total else f"{total:,} shown"
    search = '<input type="search" placeholder="file, caption, your columns" aria-label="search these clips">'
    sort = f"<label>sort by <select><option value=''>file and time</option>{options}</select></label>"
    return (
        f'<div class="sheet"><div class="controls">{search}{sort}<span class="muted shown">{shown}</span>'
        f"{filters}</div>"
        f'<div class="grid">{"".join(cards)}</div></div>'
    )


def value_text(value: Any) -> str:
    """A value of a column, escaped: numbers in few digits, no value as a dash."""
    if value is None:
        return "–"
    return number(value) if isinstance(value, int | float) and not isinstance(value, bool) else escape(str(value))


def clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds, 2), 60)
    return f"{int(minutes)}:{rest:05.2f}"


def span_of(row: Mapping[str, Any]) -> str:
    """Time code of a clip in its source."""
    return "image" if row["kind"] == "image" else f"{clock(row['start_s'])}–{clock(row['end_s'])}"


def name_of(uri: str) -> str:
    """The last part of a URI, with the whole of it on hover."""
    return f'<span title="{escape(uri)}">{escape(uri.rstrip("/").rpartition("/")[2])}</span>'


def _facts(row: Mapping[str, Any]) -> str:
    size = f"{row['width']}×{row['height']}"
    if row["kind"] == "image":
        return f"· image · {size} · {row['split']}"
    length = f"{row['end_s'] - row['start_s']:.2f} s, {row['num_frames']} frames at {row['fps']:.4g} fps"
    return f"· {span_of(row)} · {length} · {size} · {row['split']}"
