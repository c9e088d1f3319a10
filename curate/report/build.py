"""`build_report`: one self-contained HTML page from a dataset directory and its training runs."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.layout import Layout
from curate.report import sections, training
from curate.report.blend import blend
from curate.report.cards import clip_card, name_of, sheet
from curate.report.data import DatasetView, read_dataset
from curate.report.duplicates import duplicates, shown_groups, shown_members
from curate.report.explorer import edge_rows, explorer
from curate.report.film import film
from curate.report.filmstrip import NUM_FRAMES, Strip, strips_of_clips
from curate.report.page import page, section
from curate.report.quality import quality
from curate.report.review import captioned_clips, review
from curate.scan import ScanConfig
from curate.storage.publish import write_text

STYLES = ("report.css", "explorer.css", "review.css")
SCRIPTS = ("policy.js", "panels.js", "clips.js", "explorer.js", "review.js", "report.js")


def build_report(
    dataset: str,
    runs: Sequence[str] = (),
    *,
    failures: Sequence[Mapping[str, Any]] = (),
    max_clips: int = 60,
    films: Sequence[tuple[str, ScanConfig]] = (),
    searches: Sequence[tuple[str, Mapping[str, float]]] = (),
) -> str:
    """Write DATASET/report/index.html: no request leaves the page, images and videos are inside it.

    Args:
        dataset: dataset directory, a local path or an fsspec URL. Steps that have not run are left out of the page.
        failures: rows of tables/failures that still stand.
        runs: directories of training runs whose curves and samples are shown.
        max_clips: most clips on each of the two contact sheets, chosen evenly; the counts are always of all clips.
        films: URIs of films whose cuts are shown, with the settings that they were scanned with.
        searches: what was searched for, and the cosine of each clip that was found, the nearest first.

    Returns:
        Path or URL of the page.

    Raises:
        ValueError: nothing was curated into `dataset`.
    """
    view = read_dataset(dataset, failures)
    groups = shown_groups(view)
    copies = _strips(view, (row for group in groups for row in shown_members(group)))
    body = [
        section("funnel", "Funnel", "From files to training clips", sections.funnel(view)),
        section("failures", "Failed", "Failed", sections.failures(view)),
        section("explore", "Thresholds", "Thresholds", explorer(view, _strips(view, edge_rows(view)))),
        section("kept", "Kept", "Kept clips", _sheet(view, "keep", max_clips)),
        section("captions", "Captions", "Captions", _review(view, max_clips)),
        section("rejected", "Rejected", "Rejected clips", _sheet(view, "reject", max_clips)),
        section("duplicates", "Duplicates", "Duplicates", duplicates(view, groups, copies)),
    ]
    for number, (title, cosines) in enumerate(searches):
        body.append(section(f"search-{number}", "Search", f"Search: {escape(title)}", _found(view, cosines)))
    for number, (uri, config) in enumerate(films):
        body.append(section(f"film-{number}", "Cuts", f"Cuts: {name_of(uri)}", film(uri, config)))
    for number, run in enumerate(run.rstrip("/") for run in runs):
        title = escape(run.rpartition("/")[2])
        body.append(section(f"training-{number}", "Training", f"Training: {title}", training.training(run)))
        body.append(section(f"captions-{number}", "Captions", f"Captions: {title}", blend(run)))
        body.append(section(f"samples-{number}", "Samples", f"Samples: {title}", training.samples(run)))
    name = view.url.rpartition("/")[2]
    text = page(name, _summary(view), _facts(view), body, styles=STYLES, scripts=SCRIPTS)
    path = Layout(view.url).report
    # A file name may hold bytes that are no UTF-8; the page shows "?" in their place.
    write_text(path, text.encode("utf-8", "replace").decode())
    return path


def _sheet(view: DatasetView, decision: str, max_clips: int) -> str:
    table = view.decided(decision)
    if not table.num_rows:
        return (
            '<p class="muted">No clip was kept. The rules and failures above say why.</p>'
            if decision == "keep"
            else ""
        )
    rows = table.take(choose(table["reasons"].to_pylist(), max_clips)).to_pylist()
    reasons = [reason for reason, _, _ in view.reasons()] if decision == "reject" else []
    return _cards(view, rows, table.num_rows, view.score_names(), reasons)


def _found(view: DatasetView, cosines: Mapping[str, float]) -> str:
    if not cosines:
        return '<p class="muted">No clip has an embedding.</p>'
    table = view.clips.filter(pc.is_in(view.clips["clip_id"], pa.array(list(cosines))))
    rows = [{**row, "cosine": cosines[row["clip_id"]]} for row in table.to_pylist()]
    rows.sort(key=lambda row: -row["cosine"])
    return _cards(view, rows, len(rows), ["cosine", *view.score_names()])


def _cards(
    view: DatasetView,
    rows: Sequence[Mapping[str, Any]],
    total: int,
    scores: Sequence[str],
    reasons: Sequence[str] = (),
) -> str:
    """A sheet of cards of these rows, in their order."""
    members = view.members([row["clip_id"] for row in rows])
    strips = strips_of_clips(rows, members, Layout(view.url).shards, NUM_FRAMES)
    own, has_captions, note = view.own_names(), bool(view.captioned), view.caption_note
    cards = []
    for row in rows:
        texts = {name: str(row[name]) for name in own if row[name] is not None}
        member, strip = members.get(row["clip_id"]), strips[row["clip_id"]]
        cards.append(clip_card(row, member, strip, scores, texts, has_captions=has_captions, caption_note=note))
    warning = f'<p class="muted">The captions are by {escape(note)}.</p>' if note and view.captioned else ""
    return warning + sheet(cards, total, scores, reasons)


def _review(view: DatasetView, max_clips: int) -> str:
    rows, reasons = captioned_clips(view)
    chosen = [rows[at] for at in choose(reasons, max_clips)]
    members = view.members([row["clip_id"] for row in chosen])
    return quality(view) + review(view, chosen, strips_of_clips(chosen, members, Layout(view.url).shards, NUM_FRAMES))


def _strips(view: DatasetView, rows: Iterable[Mapping[str, Any]]) -> dict[str, Strip | str]:
    """Clip id → one frame, or why there is none."""
    chosen = list(rows)
    return strips_of_clips(chosen, view.members([row["clip_id"] for row in chosen]), Layout(view.url).shards, 1)


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


def _summary(view: DatasetView) -> str:
    """One sentence that a newcomer can repeat."""
    files = f"{view.num_files:,} files" if view.num_files != 1 else "1 file"
    unreadable = f" ({view.num_failed_files:,} unreadable)" if view.num_failed_files else ""
    return (
        f"{files}{unreadable} gave {view.clips.num_rows:,} clips: "
        f"{view.count('keep'):,} kept, {view.count('reject'):,} rejected."
    )


def _facts(view: DatasetView) -> dict[str, object]:
    """How the dataset was made, from config.yaml: version, commit, and the captioner."""
    facts: dict[str, object] = {"dataset": view.url}
    facts |= {key: value for key, value in view.config.get("curate", {}).items() if _is_plain(value)}
    return facts | {key: value for key, value in view.config.items() if _is_plain(value)}


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float) or hasattr(value, "isoformat")
