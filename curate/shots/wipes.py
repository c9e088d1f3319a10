"""Wipes with a straight edge: the next shot comes in from one side, and each frame is the one up to the edge and the
other beyond it."""

import math
from typing import NamedTuple

import numpy as np

from curate.shots.pictures import Pictures

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
FEWEST = 6
"""Frames with the edge within the picture."""


class _Split(NamedTuple):
    """`places`: of the edge in each frame, 0 to 1; `error`: see `ERROR`."""

    error: float
    places: np.ndarray


def find_wipes(pictures: Pictures, cuts: np.ndarray, offset: int = 0) -> np.ndarray:
    """`(T,)` bool, the frames of wipes.

    Args:
        pictures: Of T frames.
        cuts: Frames that begin a shot.
        offset: Number of the first frame, where only its remainder by `STEP` counts.
    """
    count = len(pictures.cells)
    marked = np.zeros(count, bool)
    for half in HALVES:
        middles = np.arange(half + (-half - offset) % STEP, count - half, STEP)
        one, other = middles - half, middles + half
        likely = np.searchsorted(cuts, one, side="right") == np.searchsorted(cuts, other, side="right")
        likely &= pictures.distance[one, other] > LEAST
        likely &= pictures.likeness(one, other) < UNLIKE
        likely &= _passes(pictures.distance, one, other, half)
        for first, last in zip(one[likely], other[likely], strict=True):
            frames = _frames(min(_splits(pictures, first, last), key=lambda split: split.error))
            if frames is not None:
                marked[max(0, first + 1 + frames[0]) : first + 1 + frames[1]] = True
    return marked


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
    """The best places of an edge that comes from each of the four sides."""
    cells = pictures.cells
    one, other, between = cells[first], cells[last], cells[first + 1 : last]
    old, new = np.abs(between - one).sum(axis=3), np.abs(between - other).sum(axis=3)
    scale = float(np.abs(one - other).sum()) * len(between) + 1e-3
    return [
        _split(old.sum(axis=axis)[:, ::way], new.sum(axis=axis)[:, ::way], scale) for axis in (1, 2) for way in (1, -1)
    ]


def _split(old: np.ndarray, new: np.ndarray, scale: float) -> _Split:
    """`old` and `new`: `(frames, side)`, differences from the old and the new shot along one side."""
    start = np.zeros((len(old), 1), np.float32)
    old_sum = np.concatenate([start, old.cumsum(axis=1)], axis=1)
    new_sum = np.concatenate([start, new.cumsum(axis=1)], axis=1)
    cost = new_sum + old_sum[:, -1:] - old_sum
    return _Split(float(cost.min(axis=1).sum()) / scale, cost.argmin(axis=1) / old.shape[1])


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
