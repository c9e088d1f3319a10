"""Several training runs on one pair of axes per quantity: which one learns faster, and at what speed."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from curate.report.charts import Series, curves, number, smoothed, thinned
from curate.report.data import read_lines
from curate.report.training import LARGE

QUANTITIES = (
    ("val_loss", "loss of held-out clips", False),
    ("loss", "training loss", True),
    ("lr", "learning rate", False),
    ("grad_norm", "gradient norm", True),
    ("tokens_per_s", "tokens per second", True),
)
"""Name in metrics.jsonl, title, and whether a curve is of means over a twenty-fifth of its run."""
NUM_COLORS = 8
"""Of the style sheet; from the ninth run on again."""
Rows = Sequence[Mapping[str, Any]]


def overlay(runs: Sequence[str]) -> str:
    """Curves of the runs over steps, and their last values; empty with fewer than two runs that have logged a step."""
    logged = {run.rstrip("/"): read_lines(f"{run.rstrip('/')}/metrics.jsonl") for run in runs}
    logged = {run: rows for run, rows in logged.items() if any(row.get("loss") is not None for row in rows)}
    if len(logged) < 2:
        return ""
    names = _names(list(logged))
    legend = "".join(f'<i class="key {_css(at)}"></i>{escape(name)}' for at, name in enumerate(names))
    figures = [_figure(names, list(logged.values()), *quantity) for quantity in QUANTITIES]
    return (
        f'<p class="legend muted">{legend}</p><div class="charts">{"".join(figures)}</div>'
        f"{_table(names, list(logged.values()))}"
    )


def _figure(names: Sequence[str], logged: Sequence[Rows], key: str, title: str, is_smoothed: bool) -> str:
    lines = []
    for at, (name, rows) in enumerate(zip(names, logged, strict=True)):
        if points := _points(rows, key):
            shown = smoothed(points, max(1, len(points) // 25)) if is_smoothed else points
            lines.append(Series(name=name, css=_css(at), points=thinned(shown)))
    if not lines:
        return ""
    is_large = key in ("val_loss", "loss")
    shape = ' class="large"' if is_large else ""
    chart = curves(lines, LARGE) if is_large else curves(lines)
    return f"<figure{shape}><figcaption><b>{title}</b></figcaption>{chart}</figure>"


def _table(names: Sequence[str], logged: Sequence[Rows]) -> str:
    shown = [quantity for quantity in QUANTITIES if any(_points(rows, quantity[0]) for rows in logged)]
    heads = "".join(f"<th>{title}</th>" for _, title, _ in shown)
    lines = []
    for name, rows in zip(names, logged, strict=True):
        values = [_points(rows, key) for key, _, _ in shown]
        cells = "".join(f"<td>{number(points[-1][1]) if points else '–'}</td>" for points in values)
        lines.append(f"<tr><td>{escape(name)}</td><td>{number(_points(rows, 'loss')[-1][0])}</td>{cells}</tr>")
    head = f"<thead><tr><th>run, its last values</th><th>step</th>{heads}</tr></thead>"
    return f'<div class="scroll"><table class="losses">{head}<tbody>{"".join(lines)}</tbody></table></div>'


def _names(runs: Sequence[str]) -> list[str]:
    """The last part of each path; the whole path where two runs share it."""
    last = [run.rpartition("/")[2] for run in runs]
    return [name if last.count(name) == 1 else run for name, run in zip(last, runs, strict=True)]


def _css(at: int) -> str:
    return f"run-{at % NUM_COLORS}"


def _points(rows: Rows, key: str) -> list[tuple[float, float]]:
    return [(float(row["step"]), float(row[key])) for row in rows if row.get(key) is not None]
