"""`build_report`: one self-contained HTML page from a dataset directory and its training runs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from curate.dataset.layout import Layout
from curate.report.against import Against
from curate.report.data import DatasetView, read_dataset
from curate.report.media import write_clips
from curate.report.page import page, section
from curate.report.parts import parts, shown_clips
from curate.scan import ScanConfig
from curate.storage.publish import write_text

STYLES = ("report.css", "explorer.css", "review.css", "viewer.css")
SCRIPTS = (
    "address.js", "policy.js", "against.js", "panels.js", "clips.js", "map.js", "explorer.js", "review.js",
    "report.js", "sheet.js", "play.js",
)  # fmt: skip


def build_report(
    dataset: str,
    runs: Sequence[str] = (),
    *,
    failures: Sequence[Mapping[str, Any]] = (),
    max_clips: int = 60,
    films: Sequence[tuple[str, ScanConfig]] = (),
    searches: Sequence[tuple[str, Mapping[str, float]]] = (),
    with_clips: int = 0,
    against: Callable[[DatasetView], Against] | None = None,
) -> str:
    """Write DATASET/report/index.html: no request leaves the page, images are inside it and clips beside it.

    Args:
        dataset: dataset directory, a local path or an fsspec URL. Steps that have not run are left out of the page.
        failures: rows of tables/failures that still stand.
        runs: directories of training runs whose curves and samples are shown.
        max_clips: most clips on each of the two contact sheets, chosen evenly; the counts are always of all clips.
        films: URIs of films whose cuts are shown, with the settings that they were scanned with.
        searches: what was searched for, and the cosine of each clip that was found, the nearest first.
        against: gives another decision to lay beside this one.
        with_clips: how many of the clips on the sheets are written beside the page, to play; the kept ones first.

    Returns:
        Path or URL of the page.

    Raises:
        ValueError: nothing was curated into `dataset`.
    """
    view = read_dataset(dataset, failures)
    beside = against(view) if against else None
    media = {}
    if with_clips:
        rows = [row for decision in ("keep", "reject") for row in shown_clips(view, decision, max_clips)]
        media = write_clips(view, rows, with_clips)
    found = parts(view, runs, max_clips=max_clips, films=films, searches=searches, against=beside, media=media)
    body = [section(part.anchor, part.link, part.title, part.build()) for part in found]
    name = view.url.rpartition("/")[2]
    text = page(name, summary(view), facts(view), body, styles=STYLES, scripts=SCRIPTS)
    path = Layout(view.url).report
    # A file name may hold bytes that are no UTF-8; the page shows "?" in their place.
    write_text(path, text.encode("utf-8", "replace").decode())
    return path


def summary(view: DatasetView) -> str:
    """One sentence that a newcomer can repeat."""
    files = f"{view.num_files:,} files" if view.num_files != 1 else "1 file"
    clips = f"{view.clips.num_rows:,} clips" if view.clips.num_rows != 1 else "1 clip"
    unreadable = f" ({view.num_failed_files:,} unreadable)" if view.num_failed_files else ""
    return f"{files}{unreadable} gave {clips}: {view.count('keep'):,} kept, {view.count('reject'):,} rejected."


def facts(view: DatasetView) -> dict[str, object]:
    """How the dataset was made, from config.yaml: version, commit, and the captioner."""
    found: dict[str, object] = {"dataset": view.url}
    found |= {key: value for key, value in view.config.get("curate", {}).items() if _is_plain(value)}
    return found | {key: value for key, value in view.config.items() if _is_plain(value)}


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float) or hasattr(value, "isoformat")
