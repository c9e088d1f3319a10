"""Where a dissolve is likely: a frame that is the blend of two frames around it, which show different scenes."""

from typing import NamedTuple

import numpy as np

from curate.shots.pictures import FLAT, Pictures


class Scale(NamedTuple):
    """Two frames `half` before and after; the blend between them may miss by `error` of their difference, which is at
    least `least` of that of unrelated frames."""

    half: int
    error: float
    least: float


SCALES = (
    Scale(2, 0.10, 0.06), Scale(3, 0.10, 0.04), Scale(4, 0.10, 0.05), Scale(6, 0.10, 0.08), Scale(8, 0.12, 0.1),
    Scale(12, 0.15, 0.15), Scale(16, 0.15, 0.2),
)  # fmt: skip
REACH = 32
"""Frames on either side that decide."""
BEYOND = 12
"""Frames beyond the two that are compared: the scenes before and after."""
LEAST = 12.0
UNLIKE = 0.75
FADED = 0.3
"""Contrast of one of the two frames, of the other's: less is a fade."""
MORE = 1.2
"""Change through a dissolve over that in as many frames before or after: steady motion changes as much in each."""


def likely_dissolves(pictures: Pictures, first: int, end: int, cuts: np.ndarray) -> np.ndarray:
    """`(end - first,)` bool. The window has `REACH` frames around [first, end).

    Args:
        pictures: Of the window.
        first: The first frame that is asked for.
        end: The one after the last.
        cuts: Frames that begin a shot: nothing is compared across one, nor across frames of one color, as in fades.
    """
    frames = np.arange(first, end)
    flat = np.flatnonzero(pictures.deviation <= FLAT)
    edges = np.unique(np.concatenate([[0], cuts, flat, flat + 1, [len(pictures.cells)]]))
    place = np.searchsorted(edges, frames, side="right")
    begins, ends = edges[place - 1], edges[place]
    found = np.zeros(len(frames), bool)
    deviation, last = pictures.deviation, len(pictures.cells) - 1
    for scale in SCALES:
        one, other = frames - scale.half, frames + scale.half
        likely = _is_blend(pictures, frames, scale) & (one >= begins) & (other < ends)
        left, right = np.maximum(one - BEYOND, begins), np.minimum(other + BEYOND, ends - 1)
        likely &= pictures.likeness(left, right) < UNLIKE
        likely &= deviation[one.clip(0)] > FADED * deviation[other.clip(None, last)]
        likely &= deviation[other.clip(None, last)] > FADED * deviation[one.clip(0)]
        likely &= _stands_out(pictures.distance, one, other, begins, ends)
        found |= likely
    return found


def _stands_out(
    distance: np.ndarray, one: np.ndarray, other: np.ndarray, begins: np.ndarray, ends: np.ndarray
) -> np.ndarray:
    """Whether more changes between the two frames than in as many frames before or after, as far as the stretch
    between two cuts has them."""
    one, other = one.clip(begins, None), other.clip(None, ends - 1)
    span = np.maximum(other - one, 1)
    early, late = np.maximum(one - span, begins), np.minimum(other + span, ends - 1)
    around = np.zeros(len(one))
    for first, last in ((early, one), (other, late)):
        room = last - first
        # Steady motion changes by the square of the time.
        change = distance[first, last] * (span / np.maximum(room, 1)) ** 2
        around = np.maximum(around, np.where(room >= span / 2, change, 0))
    known = (one - early >= span / 2) | (late - other >= span / 2)
    return np.asarray(known & (distance[one, other] > MORE * around))


def _is_blend(pictures: Pictures, frames: np.ndarray, scale: Scale) -> np.ndarray:
    """At each frame, and half way to either side, the picture is on the line between those `half` away, in order."""
    distance, variance = pictures.distance, pictures.variance
    one, other = frames - scale.half, frames + scale.half
    far = distance[one, other]
    good = far > np.maximum(LEAST, scale.least * (variance[one] + variance[other]))
    far = far + 1e-3
    shares = []
    middle = (scale.half + 1) // 2
    for frame in (frames - middle, frames, frames + middle):
        share = (far + distance[one, frame] - distance[frame, other]) / (2 * far)
        good &= distance[one, frame] - share**2 * far < scale.error * far
        shares.append(share)
    low, mid, high = shares
    return np.asarray(
        good & (low > 0.05) & (low < mid - 0.08) & (mid > 0.3) & (mid < 0.7) & (mid < high - 0.08) & (high < 0.95)
    )
