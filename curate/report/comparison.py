"""`build_comparison`: what `reelpack compare` found, as one self-contained page."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from statistics import fmean, stdev
from typing import Any

from curate.report.charts import nice_ticks, number, tick_label
from curate.report.page import page, section
from curate.storage.place import locate
from curate.storage.publish import write_text

WIDTH, HEIGHT = 720, 380
LEFT, RIGHT, TOP, BOTTOM = 56, 150, 14, 40
COLORS = ("#2a5d9f", "#c07a1c", "#2f7d5d", "#b23a31", "#7a4fa3", "#4f8a8b", "#8a6d3b", "#696e75")
"""Of the variants, in their order; from the ninth on again."""
MEANING = (
    "Held-out losses compare models of one objective on one dataset, at this size and length of training; a spread "
    "over few seeds is rough. They do not say which model is better at another scale, and not how samples look."
)

Point = tuple[float, float, float | None]
"""TFLOP, mean loss, and its standard deviation over the seeds."""


def build_comparison(out: str) -> str:
    """Write OUT/index.html from OUT/compare.json.

    Returns:
        Path or URL of the page.
    """
    fs, path = locate(f"{out}/compare.json")
    facts = json.loads(fs.cat_file(path))
    variants: list[dict[str, Any]] = facts.pop("variants")
    sections = [
        section("table", "Table", "Held-out loss", _table(variants)),
        section("curve", "Curve", "Held-out loss over floating-point operations", _plot(variants)),
    ]
    facts["seeds"] = ", ".join(map(str, facts["seeds"]))
    target = f"{out}/index.html"
    write_text(target, page("Comparison", MEANING, facts, sections, styles=("report.css",), scripts=()))
    return target


def points(variant: Mapping[str, Any]) -> list[Point]:
    """Of the evaluations that all seeds have."""
    curves = [run["curve"] for run in variant["runs"]]
    steps = set.intersection(*({step for step, *_ in curve} for curve in curves))
    found = []
    for step in sorted(steps):
        rows = [row for curve in curves for row in curve if row[0] == step]
        losses = [loss for _, _, loss in rows]
        found.append((fmean(tflop for _, tflop, _ in rows), fmean(losses), stdev(losses) if len(losses) > 1 else None))
    return found


def _table(variants: Sequence[Mapping[str, Any]]) -> str:
    heads = ("variant", "held-out loss", "parameters", "steps", "TFLOP", "tokens/s", "memory, GiB")
    rows = []
    for one in variants:
        *_, (_, loss, spread) = points(one)
        cells = [
            escape(one["name"]),
            f"{loss:.4f}" + ("" if spread is None else f" ± {spread:.4f}"),
            f"{one['num_parameters']:,}",
            f"{one['steps']:,}",
            number(one["tflop"]),
            number(fmean(run["tokens_per_s"] for run in one["runs"])),
            f"{max(run['memory_gib'] for run in one['runs']):.2f}",
        ]
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return f"<table><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>{''.join(rows)}</table>"


def _plot(variants: Sequence[Mapping[str, Any]]) -> str:
    """Mean losses with error bars; empty where no variant has two evaluations."""
    curves = [points(one) for one in variants]
    flat = [(x, y - (spread or 0), y + (spread or 0)) for curve in curves for x, y, spread in curve]
    x_high = max(x for x, _, _ in flat)
    low, high = min(y for _, y, _ in flat), max(y for _, _, y in flat)
    if max(map(len, curves)) < 2 or high <= low or x_high <= 0:
        return ""

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + x / x_high * (WIDTH - LEFT - RIGHT)
        return across, TOP + (high - y) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = []
    y_ticks, x_ticks = nice_ticks(low, high), nice_ticks(0, x_high)
    for tick in y_ticks:
        _, y = place(0, tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick_label(tick, y_ticks)}</text>')
    for tick in x_ticks:
        x, _ = place(tick, low)
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 22}" text-anchor="middle">{tick_label(tick, x_ticks)}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 5}" text-anchor="middle">TFLOP</text>')
    for index, (one, curve) in enumerate(zip(variants, curves, strict=True)):
        color = COLORS[index % len(COLORS)]
        places = [(place(x, y), y, spread) for x, y, spread in curve]
        line = " ".join(f"{x:.1f},{y:.1f}" for (x, y), _, _ in places)
        parts.append(f'<polyline style="fill:none;stroke:{color};stroke-width:1.6" points="{line}"/>')
        for (x, y), loss, spread in places:
            told = f"{escape(one['name'])}: {loss:.4f}" + ("" if spread is None else f" ± {spread:.4f}")
            if spread:
                reach = spread / (high - low) * (HEIGHT - TOP - BOTTOM)
                ends = f'x1="{x:.1f}" x2="{x:.1f}" y1="{y - reach:.1f}" y2="{y + reach:.1f}"'
                parts.append(f'<line style="stroke:{color}" {ends}/>')
            parts.append(
                f'<circle style="fill:{color}" cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{told}</title></circle>'
            )
        y = TOP + 16 * index + 8
        parts.append(f'<rect x="{WIDTH - RIGHT + 12}" y="{y - 8}" width="10" height="10" style="fill:{color}"/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 27}" y="{y + 1}">{escape(one["name"])}</text>')
    label = "held-out loss over TFLOP"
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
