"""Wipes: the next shot comes in behind an edge, and each frame is the one up to the edge and the other beyond it. The
edge is straight, diagonal or round."""

import math
from functools import cache
from typing import NamedTuple

import numpy as np

from curate.shots.pictures import COLUMNS, ROWS, Pictures

HALVES = (6, 10, 16, 22)
"""Frames before and after the middle that a wipe is looked for between."""
REACH = 22
STEP = 5
"""Frames between the middles that are tried."""
UNLIKE = 0.8
LEAST = 30.0
ERROR = 0.24
"""Largest mean error, of the difference of the two shots."""
UNEVEN = 0.07
"""Furthest from the place of an edge that moves evenly, of the picture's side."""
UNEVEN_PACE = 0.25
"""Tolerated difference of the pace from that which crosses the picture in these frames."""
FEWEST = 5
"""Frames with the edge within the picture."""
BINS = 24
"""Places of an edge that are told apart."""


class _Split(NamedTuple):
    """`places`: of the edge in each frame, 0 to 1; `error`: see `ERROR`."""

    error: float
    places: np.ndarray


def find_wipes(pictures: Pictures, first: int, end: int, cuts: np.ndarray) -> np.ndarray:
    """`(end - first,)` bool, the frames of wipes. The window has 2 * `REACH` frames around [first, end), and begins at
    a multiple of `STEP`, counted in the file.

    Args:
        pictures: Of the window.
        first: The first frame that is asked for.
        end: The one after the last.
        cuts: Frames that begin a shot.
    """
    marked = np.zeros(len(pictures.cells), bool)
    for half in HALVES:
        middles = np.arange(STEP, len(marked), STEP)
        middles = middles[(middles >= first - half) & (middles < end + half)]
        one, other = middles - half, middles + half
        likely = np.searchsorted(cuts, one, side="right") == np.searchsorted(cuts, other, side="right")
        likely &= pictures.distance[one, other] > LEAST
        likely &= pictures.likeness(one, other) < UNLIKE
        likely &= _passes(pictures.distance, one, other, half)
        for before, after in zip(one[likely], other[likely], strict=True):
            frames = _frames(min(_splits(pictures, before, after), key=lambda split: split.error))
            if frames is not None:
                marked[max(0, before + 1 + frames[0]) : before + 1 + frames[1]] = True
    return marked[first:end]


def _passes(distance: np.ndarray, one: np.ndarray, other: np.ndarray, half: int) -> np.ndarray:
    """Whether the frames between go from the one to the other step by step, as parts of both and not as blends: the
    squared differences to both then sum up to that of the two."""
    between = one[:, None] + np.arange(1, 2 * half)
    far = distance[one, other][:, None] + 1e-3
    to_one, to_other = distance[one[:, None], between] / far, distance[between, other[:, None]] / far
    share = (1 + to_one - to_other) / 2
    inside = (share > 0.05) & (share < 0.95)
    count = inside.sum(axis=1)
    apart = np.where(inside, to_one + to_other, 0).sum(axis=1) / np.maximum(count, 1)
    moves = np.diff(share, axis=1)
    steady = (moves.min(axis=1) > -0.12) & (moves.max(axis=1) < 0.4) & (share[:, 0] < 0.1) & (share[:, -1] > 0.85)
    return np.asarray(steady & (count >= FEWEST) & (apart > 0.8) & (apart < 1.3))


def _splits(pictures: Pictures, first: int, last: int) -> list[_Split]:
    """The best places of an edge of each shape, from either side."""
    cells = pictures.cells
    one, other, between = cells[first], cells[last], cells[first + 1 : last]
    old, new = np.abs(between - one).sum(axis=3), np.abs(between - other).sum(axis=3)
    scale = float(np.abs(one - other).sum()) * len(between) + 1e-3
    gain = (new - old).reshape(len(between), -1) @ _shapes()  # what it costs that a bin shows the new shot
    by_shape = gain.reshape(len(between), -1, BINS)
    base = old.sum(axis=(1, 2))
    return [_split(by_shape[:, shape, ::way], base, scale) for shape in range(by_shape.shape[1]) for way in (1, -1)]


@cache
def _shapes() -> np.ndarray:
    """`(cells, shapes * BINS)` float32, 1 at the bin of each cell: how far an edge is when it meets it."""
    y, x = np.mgrid[:ROWS, :COLUMNS] + 0.5
    y, x = y / ROWS, x / COLUMNS
    fields = [x, y, (x + y) / 2, (x + 1 - y) / 2, np.hypot(2 * x - 1, 2 * y - 1) / math.sqrt(2)]
    bins = [np.minimum((field / field.max() * BINS).astype(int), BINS - 1).ravel() for field in fields]
    return np.concatenate([np.eye(BINS, dtype=np.float32)[one] for one in bins], axis=1)


def _split(gain: np.ndarray, base: np.ndarray, scale: float) -> _Split:
    """`gain`: `(frames, BINS)`, along the edge's way; `base`: `(frames,)`, difference from the old shot."""
    cost = np.concatenate([np.zeros((len(gain), 1), np.float32), gain.cumsum(axis=1)], axis=1)
    return _Split(float((base + cost.min(axis=1)).sum()) / scale, cost.argmin(axis=1) / BINS)


def _frames(split: _Split) -> tuple[int, int] | None:
    """Where the edge moves through the picture, one way and at an even pace, from a frame without it to one without
    it; None if it does not."""
    places = split.places
    inside = np.flatnonzero((places > 0) & (places < 1))
    if split.error > ERROR or len(inside) < FEWEST:
        return None
    first, end = int(inside[0]), int(inside[-1]) + 1
    whole = first > 0 and end < len(places) and not places[:first].any() and (places[end:] == 1).all()
    if not whole or (np.diff(places[first - 1 : end + 1]) < 0).any():
        return None
    frames = np.arange(first, end)
    pace, start = np.polyfit(frames, places[first:end], 1)
    uneven = np.abs(start + pace * frames - places[first:end]).max()
    if uneven > UNEVEN or abs(pace * (end - first + 1) - 1) > UNEVEN_PACE:
        return None
    return min(first, math.floor(-start / pace)), max(end, math.ceil((1 - start) / pace))
