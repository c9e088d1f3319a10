"""Inline SVG: curves of training, bars of counts. Text is escaped; colors come from the page's style sheet."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 340, 150
LEFT, RIGHT, TOP, BOTTOM = 40, 10, 12, 22
MOST_DOTS = 24
"""A curve with more points than this is drawn without its points."""

MOST_ENDS = 8
"""Ends of bins that have a label."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """One curve: points `(x, y)` sorted by x, drawn in the style of class `css`."""

    name: str
    css: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Bin:
    """One bar: how many, what the bin is called, and the label at its end."""

    name: str
    end: str
    count: int


def bars(bins: Sequence[Bin], label: str, size: tuple[int, int] = (WIDTH, HEIGHT)) -> str:
    """A bar for each bin, side by side on one scale; every bar tells its bin and count."""
    ticks = [tick for tick in nice_ticks(0, max(1, *(one.count for one in bins))) if tick == int(tick)]
    highest, (width, height) = max(ticks[-1], *(one.count for one in bins)), size
    step, room = (width - LEFT - RIGHT) / len(bins), height - TOP - BOTTOM
    parts = [_y_tick(number(tick), height - BOTTOM - tick / highest * room, width) for tick in ticks]
    every = max(1, math.ceil(len(bins) / MOST_ENDS))
    for index, one in enumerate(bins):
        tall, left = one.count / highest * room, LEFT + index * step
        place = f'x="{left + 1:.1f}" y="{height - BOTTOM - tall:.1f}" width="{step - 2:.1f}" height="{tall:.1f}"'
        parts.append(f'<rect class="train" {place}><title>{escape(one.name)}: {one.count:,}</title></rect>')
        if (len(bins) - 1 - index) % every == 0:
            end = f'x="{left + step:.1f}" y="{height - 6}" text-anchor="end"'
            parts.append(f"<text {end}>{escape(one.end)}</text>")
    return _svg("".join(parts), label, size)


def curves(series: Sequence[Series], size: tuple[int, int] = (WIDTH, HEIGHT)) -> str:
    """Curves over training steps, on one pair of axes; `size` is width and height in units of the text."""
    points = [point for one in series for point in one.points]
    x_low, x_high = _span([x for x, _ in points], pad=0)
    ticks = nice_ticks(*_span([y for _, y in points], pad=0))
    y_low, y_high = _span([ticks[0], ticks[-1], *(y for _, y in points)], pad=0)
    width, height = size

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / (x_high - x_low) * (width - LEFT - RIGHT)
        return LEFT + across, height - BOTTOM - (y - y_low) / (y_high - y_low) * (height - TOP - BOTTOM)

    parts = [_x_axis(x_low, x_high, size)]
    parts += [_y_tick(tick_label(tick, ticks), place(x_low, tick)[1], width) for tick in ticks]
    for one in series:
        places = [place(x, y) for x, y in one.points]
        line = " ".join(f"{across:.1f},{down:.1f}" for across, down in places)
        parts.append(f'<polyline class="{one.css}" points="{line}"/>')
        if len(one.points) <= MOST_DOTS:
            for (x, y), (across, down) in zip(one.points, places, strict=True):
                title = f"{escape(one.name)} {number(y)} at step {x:g}"
                dot = f'<circle class="{one.css}" cx="{across:.1f}" cy="{down:.1f}" r="2.5">'
                parts.append(f"{dot}<title>{title}</title></circle>")
    return _svg("".join(parts), " and ".join(one.name for one in series) + " over steps", size)


def smoothed(points: Sequence[tuple[float, float]], window: int) -> list[tuple[float, float]]:
    """Mean of each point and up to `window - 1` before it."""
    out = []
    for index, (x, _) in enumerate(points):
        recent = [y for _, y in points[max(0, index - window + 1) : index + 1]]
        out.append((x, sum(recent) / len(recent)))
    return out


def thinned(points: Sequence[tuple[float, float]], limit: int = 600) -> list[tuple[float, float]]:
    """At most about `limit` points, evenly chosen, the last one among them."""
    step = max(1, math.ceil(len(points) / limit))
    return [*points[:-1:step], *points[-1:]]


def nice_ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) inside `[low, high]`, about `about` of them."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def tick_label(tick: float, ticks: Sequence[float]) -> str:
    """A tick with as many decimals as tell it from its neighbors."""
    if len(ticks) < 2 or max(abs(other) for other in ticks) < 1e-3:
        return number(tick)
    decimals = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    return f"{tick:,.{decimals}f}"


def number(value: float) -> str:
    """A number for people: three significant digits, thousands separated."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _span(values: Sequence[float], pad: float = 0.02) -> tuple[float, float]:
    """Range of the values, never empty, widened by `pad` of itself on both sides."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-9):
        around = max(abs(low) * 0.1, 1e-6) if low else 0.5
        return low - around, high + around
    return low - pad * (high - low), high + pad * (high - low)


def _x_axis(low: float, high: float, size: tuple[int, int]) -> str:
    width, height = size
    y = height - BOTTOM
    ticks = nice_ticks(low, high)
    texts = []
    for tick in ticks:
        x = LEFT + (tick - low) / (high - low) * (width - LEFT - RIGHT)
        texts.append(f'<text x="{x:.1f}" y="{height - 6}" text-anchor="middle">{tick_label(tick, ticks)}</text>')
    return f'<line class="axis" x1="{LEFT}" x2="{width - RIGHT}" y1="{y}" y2="{y}"/>' + "".join(texts)


def _y_tick(label: str, y: float, width: int) -> str:
    return (
        f'<line class="grid" x1="{LEFT}" x2="{width - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{LEFT - 5}" y="{y + 3.5:.1f}" text-anchor="end">{label}</text>'
    )


def _svg(content: str, label: str, size: tuple[int, int]) -> str:
    return f'<svg viewBox="0 0 {size[0]} {size[1]}" role="img" aria-label="{escape(label)}">{content}</svg>'
