"""`build_comparison`: what `reelpack compare` found, as one self-contained page."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from itertools import chain
from statistics import fmean, stdev
from typing import Any

from curate.report.charts import nice_ticks, number, tick_label
from curate.report.page import page, section
from curate.storage.place import locate
from curate.storage.publish import write_text

WIDTH, HEIGHT, ROW = 760, 400, 26
LEFT, RIGHT, TOP, BOTTOM = 56, 170, 14, 40
COLORS = ("#2a5d9f", "#c07a1c", "#2f7d5d", "#b23a31", "#7a4fa3", "#4f8a8b", "#8a6d3b", "#696e75")
"""Of the variants, in their order; from the ninth on again."""
MEANING = (
    "Held-out losses compare models of one objective on one dataset, at this size and length of training; a spread "
    "over few seeds is rough. They do not say which model is better at another scale, or how samples look."
)
UNITS = (
    "Loss: of held-out clips, fixed noise and timesteps, averaged weights; ± one standard deviation over the seeds. "
    "TFLOP: matrix products of a run, forward and backward. Tokens per second: median over the steps, in tokens of "
    "the patch of the variant that set the budget. Time: of the steps of a run. Memory: peak of the device; without "
    "one that of the run's process, with its libraries."
)

Point = tuple[float, float, float | None]
"""TFLOP, mean loss, and its standard deviation over the seeds."""
Place = Callable[[float], float]


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
        section("last", "Last losses", "Last held-out losses", _ranges(variants)),
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


def verdict(variants: Sequence[tuple[str, float, float | None]]) -> str:
    """A sentence: which variants the spread over the seeds does not tell from the best.

    Args:
        variants: name, mean loss and its standard deviation; best first.
    """
    (best, lowest, spread), *others = variants
    if not others:
        return "One variant: there is nothing to compare it with."
    if spread is None:
        return "One seed has no spread: differences may be chance."
    reach = lowest + spread
    close = [name for name, loss, own in others if loss - (own or 0.0) <= reach]
    if not close:
        return f"The range of {best} (mean ± one standard deviation) overlaps with no other."
    return f"Not told apart from {best}: {', '.join(close)}. Their ranges (mean ± one standard deviation) overlap."


def _table(variants: Sequence[Mapping[str, Any]]) -> str:
    heads = ("variant", "held-out loss", "parameters", "steps", "TFLOP", "tokens/s", "time, s", "memory, GiB")
    rows, lasts = [], []
    for one in variants:
        _, loss, spread = points(one)[-1]
        lasts.append((one["name"], loss, spread))
        cells = [
            escape(one["name"]),
            f"{loss:.4f}" + ("" if spread is None else f" ± {spread:.4f}"),
            f"{one['num_parameters']:,}",
            f"{one['steps']:,}",
            number(one["tflop"]),
            number(fmean(run["tokens_per_s"] for run in one["runs"])),
            number(fmean(run["seconds"] for run in one["runs"])),
            f"{max(run['memory_gib'] for run in one['runs']):.2f}",
        ]
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    table = f"<table><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>{''.join(rows)}</table>"
    return f"<p>{escape(verdict(lasts))}</p>{table}<p class='muted'>{escape(UNITS)}</p>"


def _ranges(variants: Sequence[Mapping[str, Any]]) -> str:
    """A row per variant: every seed's last loss, their mean and its error bar, on a scale of these alone."""
    lasts = [points(one)[-1] for one in variants]
    seeds = [[run["curve"][-1][2] for run in one["runs"]] for one in variants]
    ends = [loss + sign * (spread or 0.0) for _, loss, spread in lasts for sign in (-1, 1)]
    ends += chain.from_iterable(seeds)
    low, high = min(ends), max(ends)
    if high <= low:
        return ""
    left, bottom = RIGHT, TOP + ROW * len(variants)
    x = _scale(low, high, left, WIDTH - LEFT)
    ticks = nice_ticks(low, high)
    parts = [_x_tick(x(tick), tick_label(tick, ticks), bottom, grid_from=TOP) for tick in ticks]
    for index, (one, (_, loss, spread), of_seeds) in enumerate(zip(variants, lasts, seeds, strict=True)):
        color, y = COLORS[index % len(COLORS)], TOP + ROW * (index + 0.5)
        parts.append(f'<text x="{left - 10}" y="{y + 4}" text-anchor="end">{escape(one["name"])}</text>')
        if spread:
            parts.append(_bar(color, (x(loss - spread), y), (x(loss + spread), y)))
        parts += [f'<circle style="fill:none;stroke:{color}" cx="{x(v):.1f}" cy="{y}" r="2.5"/>' for v in of_seeds]
        parts.append(_dot(color, x(loss), y, _told(one["name"], loss, spread), radius=4))
    parts.append(_x_name("held-out loss", left, WIDTH - LEFT, bottom))
    return _svg("".join(parts), bottom + BOTTOM, "last held-out loss of each variant")


def _plot(variants: Sequence[Mapping[str, Any]]) -> str:
    """Mean losses with error bars, operations on a logarithmic scale; empty where no variant has two evaluations."""
    curves = [points(one) for one in variants]
    reached = [(y - (spread or 0), y + (spread or 0)) for curve in curves for _, y, spread in curve]
    low, high = min(y for y, _ in reached), max(y for _, y in reached)
    first, last = (choose(tflop for curve in curves for tflop, _, _ in curve) for choose in (min, max))
    if max(map(len, curves)) < 2 or high <= low or not 0 < first < last:
        return ""
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    along, y = _scale(math.log(first), math.log(last), LEFT + 6, right - 6), _scale(low, high, bottom, TOP)
    ticks = nice_ticks(low, high)
    parts = []
    for tick in ticks:
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick_label(tick, ticks)}</text>')
    parts += [_x_tick(along(math.log(tick)), number(tick), bottom) for tick in _decades(first, last)]
    parts.append(_x_name("TFLOP", LEFT, right, bottom))
    for index, (one, curve) in enumerate(zip(variants, curves, strict=True)):
        color, name = COLORS[index % len(COLORS)], one["name"]
        line = " ".join(f"{along(math.log(tflop)):.1f},{y(loss):.1f}" for tflop, loss, _ in curve)
        parts.append(f'<polyline style="fill:none;stroke:{color};stroke-width:1.6" points="{line}"/>')
        for tflop, loss, spread in curve:
            x = along(math.log(tflop))
            if spread:
                parts.append(_bar(color, (x, y(loss - spread)), (x, y(loss + spread))))
            parts.append(_dot(color, x, y(loss), _told(name, loss, spread)))
        top = TOP + 18 * index
        parts.append(f'<rect x="{right + 14}" y="{top}" width="10" height="10" style="fill:{color}"/>')
        parts.append(f'<text x="{right + 30}" y="{top + 9}">{escape(name)}</text>')
    return _svg("".join(parts), HEIGHT, "held-out loss over TFLOP")


def _scale(low: float, high: float, start: float, end: float) -> Place:
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between two numbers."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [
        tick for power in powers for tick in (10.0**power, 2 * 10.0**power, 5 * 10.0**power) if low <= tick <= high
    ]


def _told(name: str, loss: float, spread: float | None) -> str:
    return f"{escape(name)}: {loss:.4f}" + ("" if spread is None else f" ± {spread:.4f}")


def _dot(color: str, x: float, y: float, told: str, radius: float = 3) -> str:
    place = f'cx="{x:.1f}" cy="{y:.1f}" r="{radius}"'
    return f'<circle style="fill:{color}" {place}><title>{told}</title></circle>'


def _bar(color: str, start: tuple[float, float], end: tuple[float, float], cap: float = 4) -> str:
    """An error bar with a cap at each end, upright or level."""
    upright = start[0] == end[0]
    lines = [(start, end)]
    for x, y in (start, end):
        dx, dy = (cap, 0.0) if upright else (0.0, cap)
        lines.append(((x - dx, y - dy), (x + dx, y + dy)))
    ends = " ".join(f"M{a:.1f},{b:.1f}L{c:.1f},{d:.1f}" for (a, b), (c, d) in lines)
    return f'<path style="fill:none;stroke:{color};stroke-width:1.4" d="{ends}"/>'


def _x_tick(x: float, label: str, bottom: float, grid_from: float | None = None) -> str:
    top = bottom - 4 if grid_from is None else grid_from
    line = f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>'
    return f'{line}<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{label}</text>'


def _x_name(name: str, left: float, right: float, bottom: float) -> str:
    return f'<text x="{(left + right) / 2:.0f}" y="{bottom + 34}" text-anchor="middle">{name}</text>'


def _svg(content: str, height: float, label: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">{content}</svg>'
