"""The served report's page: what asks for clips, and sections that are fetched when they come into view."""

from collections.abc import Iterable, Mapping
from html import escape

from curate.report.build import SCRIPTS, STYLES, facts, summary
from curate.report.cards import DECISION_NAMES
from curate.report.data import DatasetView
from curate.report.page import page, section
from curate.report.parts import Part

WAYS = {"meaning": "meaning", "like": "likeness to a clip id"}
SERVED_SCRIPTS = (*(name for name in SCRIPTS if name != "sheet.js"), "served.js")


def frame(view: DatasetView, parts: Iterable[Part], ways: Iterable[str], others: Mapping[str, str]) -> str:
    """The whole page, without any clip in it.

    Args:
        others: decisions that it can be laid beside, by their names in the address.
        ways: how clips can be searched beside their words, see `pipelines.inspection.search.ways`.
    """
    clips = section("clips", "Clips", "Clips", _finder(view, ways, others))
    shown = [part for part in parts if part.anchor != "map"]
    later = [section(part.anchor, part.link, part.title, _later(part.anchor)) for part in shown]
    name = view.url.rpartition("/")[2]
    text = page(
        name, summary(view), facts(view), [clips, *later], styles=STYLES, scripts=SERVED_SCRIPTS, is_linked=True
    )
    return text.encode("utf-8", "replace").decode()


def _later(anchor: str) -> str:
    return f'<div data-later="/sections/{escape(anchor)}"><p class="muted">…</p></div>'


def _map() -> str:
    """Above the clips that a box in it chooses."""
    return f'<details class="fold"><summary>map of embeddings</summary>{_later("map")}</details>'


def _finder(view: DatasetView, ways: Iterable[str], others: Mapping[str, str]) -> str:
    if not view.clips.num_rows:
        return (
            '<p class="muted">There is no clip yet: no input that could be read had a shot. The failures say why.</p>'
        )
    counts = [(name, f"{said} ({view.count(name):,})") for name, said in DECISION_NAMES.items() if view.count(name)]
    reasons = [(name, f"{name} ({count:,})") for name, count, _ in view.reasons()]
    by = [("", "words"), *((way, WAYS[way]) for way in ways)]
    chosen = [
        _choice("by", "by", by) if len(by) > 1 else "",
        _choice("decision", "show", [("", "all"), *counts]),
        _choice("reason", "rejected by", [("", "any"), *reasons]) if reasons else "",
        _choice("sort", "sort by", [("", "file and time"), *((name, name) for name in view.score_names())]),
        _choice("against", "compare with", [("", "nothing"), *others.items()]) if others else "",
    ]
    return (
        '<div class="served"><form class="controls finder">'
        '<input type="search" name="q" placeholder="file, caption, your columns" aria-label="search all clips">'
        f'{"".join(chosen)}<label><input type="checkbox" name="descending" value="1"> descending</label>'
        '<span class="muted" aria-live="polite"></span><p class="problem" role="alert" hidden></p>'
        '<input type="hidden" name="differ"></form>'
        '<div class="beside"></div>'
        f'{_map() if len(by) > 1 else ""}<div class="grid"></div><nav class="pager" aria-label="pages"></nav></div>'
    )


def _choice(name: str, label: str, options: Iterable[tuple[str, str]]) -> str:
    shown = "".join(f'<option value="{escape(value)}">{escape(text)}</option>' for value, text in options)
    return f'<label>{label} <select name="{name}">{shown}</select></label>'
