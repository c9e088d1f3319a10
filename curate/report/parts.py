"""The sections of a dataset's report, each made when it is asked for: all for a file, one by one when served."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.layout import Layout
from curate.report import sections, training
from curate.report.against import Against
from curate.report.blend import blend
from curate.report.cards import name_of
from curate.report.compared import compared, laid
from curate.report.data import DatasetView
from curate.report.duplicates import duplicates, shown_groups, shown_members
from curate.report.explorer import edge_rows, explorer
from curate.report.film import film
from curate.report.filmstrip import NUM_FRAMES, Strip, strips_of_clips
from curate.report.overlay import overlay
from curate.report.projection import embedding_map, points
from curate.report.quality import quality
from curate.report.review import captioned_clips, review
from curate.report.sheets import choose, sheet_of
from curate.scan import ScanConfig

MAX_COMPARED = 20_000
"""Clips among which those on the sheet of another decision are chosen: of more an even sample."""
Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A section: its anchor, the link to it, its title as HTML, and what makes its content."""

    anchor: str
    link: str
    title: str
    build: Callable[[], str]


def parts(
    view: DatasetView,
    runs: Sequence[str] = (),
    *,
    max_clips: int = 60,
    films: Sequence[tuple[str, ScanConfig]] = (),
    searches: Sequence[tuple[str, Mapping[str, float]]] = (),
    against: Against | None = None,
    media: Mapping[str, str],
) -> list[Part]:
    """The sections in the order of the page; see `build_report`.

    Args:
        media: clip id → where it plays from, relative to the page.
    """

    def part(anchor: str, link: str, title: str, build: Callable[..., str], *arguments: Any) -> Part:
        return Part(anchor=anchor, link=link, title=title, build=partial(build, *arguments))

    found = [
        part("funnel", "Funnel", "From files to training clips", sections.funnel, view),
        part("failures", "Failed", "Failed", sections.failures, view),
        part("explore", "Thresholds", "Thresholds", _explorer, view, against),
        part("map", "Map", "Map", lambda: embedding_map(view, points(view))),
        part("kept", "Kept", "Kept clips", _sheet, view, "keep", max_clips, media, against),
        part("captions", "Captions", "Captions", _review, view, max_clips),
        part("rejected", "Rejected", "Rejected clips", _sheet, view, "reject", max_clips, media, against),
        part("duplicates", "Duplicates", "Duplicates", _duplicates, view),
    ]
    if against:
        title = f"Compared with {escape(against.name)}"
        found.insert(2, part("compared", "Compared", title, _compared, view, against, max_clips, media))
    for number, (title, cosines) in enumerate(searches):
        found.append(part(f"search-{number}", "Search", f"Search: {escape(title)}", _found, view, cosines, media))
    for number, (uri, config) in enumerate(films):
        found.append(part(f"film-{number}", "Cuts", f"Cuts: {name_of(uri)}", film, uri, config))
    if len(runs) > 1:
        found.append(part("runs", "Runs", "Training runs, overlaid", overlay, runs))
    for number, run in enumerate(run.rstrip("/") for run in runs):
        title = escape(run.rpartition("/")[2])
        found.append(part(f"training-{number}", "Training", f"Training: {title}", training.training, run))
        found.append(part(f"captions-{number}", "Captions", f"Captions: {title}", blend, run))
        found.append(part(f"samples-{number}", "Samples", f"Samples: {title}", training.samples, run))
    return found


def shown_clips(view: DatasetView, decision: str, max_clips: int) -> list[dict[str, Any]]:
    """Rows of the clips on a contact sheet."""
    table = view.decided(decision)
    chosen = choose(table["reasons"].to_pylist(), max_clips)
    rows: list[dict[str, Any]] = table.take(pa.array(chosen, pa.int64())).to_pylist()
    return rows


def _sheet(view: DatasetView, decision: str, max_clips: int, media: Mapping[str, str], against: Against | None) -> str:
    rows = shown_clips(view, decision, max_clips)
    if not rows:
        return (
            '<p class="muted">No clip was kept. The rules and failures above say why.</p>'
            if decision == "keep"
            else ""
        )
    reasons = [reason for reason, _, _ in view.reasons()] if decision == "reject" else []
    return sheet_of(view, rows, view.count(decision), view.score_names(), media, reasons, against)


def _found(view: DatasetView, cosines: Mapping[str, float], media: Mapping[str, str]) -> str:
    if not cosines:
        return '<p class="muted">No clip has an embedding.</p>'
    table = view.clips.filter(pc.is_in(view.clips["clip_id"], pa.array(list(cosines))))
    rows = [{**row, "cosine": cosines[row["clip_id"]]} for row in table.to_pylist()]
    rows.sort(key=lambda row: -row["cosine"])
    return sheet_of(view, rows, len(rows), ["cosine", *view.score_names()], media)


def _compared(view: DatasetView, against: Against, max_clips: int, media: Mapping[str, str]) -> str:
    found = np.flatnonzero(against.masks["any"] | against.masks["here"])
    differing = found[:: max(1, len(found) // MAX_COMPARED)]
    ids = view.clips["clip_id"].take(differing)
    there = against.rows(ids.to_pylist())
    reasons = [
        here or there.get(clip_id, {}).get("reasons", [])
        for clip_id, here in zip(ids.to_pylist(), view.clips["reasons"].take(differing).to_pylist(), strict=True)
    ]
    rows = view.clips.take(differing[choose(reasons, max_clips)]).to_pylist()
    if not rows:
        return compared(against)
    return compared(against) + sheet_of(view, rows, len(found), view.score_names(), media, against=against)


def _explorer(view: DatasetView, against: Against | None) -> str:
    return explorer(view, _strips(view, edge_rows(view))) + (laid(against) if against else "")


def _duplicates(view: DatasetView) -> str:
    groups = shown_groups(view)
    return duplicates(view, groups, _strips(view, (row for group in groups for row in shown_members(group))))


def _review(view: DatasetView, max_clips: int) -> str:
    rows, reasons = captioned_clips(view)
    chosen = [rows[at] for at in choose(reasons, max_clips)]
    members = view.members([row["clip_id"] for row in chosen])
    return quality(view) + review(view, chosen, strips_of_clips(chosen, members, Layout(view.url).shards, NUM_FRAMES))


def _strips(view: DatasetView, rows: Iterable[Row]) -> dict[str, Strip | str]:
    """Clip id → one frame, or why there is none."""
    chosen = list(rows)
    return strips_of_clips(chosen, view.members([row["clip_id"] for row in chosen]), Layout(view.url).shards, 1)
