"""Hard cuts: two calm stretches of film whose pictures have nothing in common, with few mixed frames or none between.

The change between the two is set against the change from frame to frame on either side of it, so fast motion and shake
are no cuts. Where the same picture goes on in another light, or comes back after a flash, there is none either.
"""

from typing import NamedTuple

import numpy as np

from curate.shots.pictures import FLAT, WIDE, Pictures

MOST_MIXED = 5
"""Frames between two shots that are looked at."""
SURE_MIXED = 1
"""Frames up to which a blend is no fast motion."""
FLASH_MIXED = 3
"""Frames up to which what is no blend may be a flash at a cut."""
ERROR = 0.08
"""Mean squared difference of a mixed frame from a blend, of that of the two shots."""
RETURN = 6
"""Frames within which a flash is over."""
REACH_BACK, REACH_AHEAD = RETURN + 1, MOST_MIXED + RETURN + 2
"""Frames before and after a frame that decide on a cut before it."""
CALM = 4.0
"""Mean squared change that passes for none."""
LEAST = 20.0
"""Of a cut: mean squared difference."""


class Jumps(NamedTuple):
    """Per frame. `strength`: 1 where a shot ends before this frame, one half where that is in doubt, else 0. `mixed`:
    frames between the two shots."""

    strength: np.ndarray
    mixed: np.ndarray


def find_jumps(pictures: Pictures, first: int, end: int) -> Jumps:
    """Of frames [first, end) of the window, which has `REACH_BACK` frames before and `REACH_AHEAD` after them."""
    strength, mixed, best = np.zeros(end - first), np.zeros(end - first), np.zeros(end - first)
    frames = np.arange(first, end)
    for count in range(MOST_MIXED + 1):
        ratio, likeness, stays = _measures(pictures, frames, count)
        likely = (ratio > 4) & (likeness < 0.75) & (stays > 0.5)
        if count == 0:
            doubt = frames[(ratio > 1.5) & (likeness < 0.85) & (stays > 0.3)]
            strength[doubt[pictures.changed(doubt - 1, doubt) > WIDE] - first] = 0.5
        places = np.flatnonzero(likely)
        wide = pictures.changed(frames[places] - 1, frames[places] + count) > WIDE
        for place in places[wide].tolist():
            near = slice(max(0, place - MOST_MIXED), place + MOST_MIXED + 1)
            if ratio[place] <= 3 * best[near].max():
                continue
            if count <= SURE_MIXED or _is_flat(pictures, first + place, count):
                if count == 0 or is_mixture(pictures, first + place, count):
                    strength[near], best[near] = 0, 0
                    strength[place], mixed[place], best[place] = 1, count, ratio[place]
            elif best[near].max() == 0 and (count <= FLASH_MIXED or is_mixture(pictures, first + place, count)):
                strength[place] = 0.5
    return Jumps(strength, mixed)


def _is_flat(pictures: Pictures, place: int, count: int) -> bool:
    return bool((pictures.deviation[place : place + count] <= FLAT).all())


def is_mixture(pictures: Pictures, place: int, count: int) -> bool:
    """Whether each of `count` frames from `place` on is of one color, or a blend of the frames around them, of the one
    after more and more."""
    before, after = place - 1, place + count
    distance = pictures.distance
    far, share = distance[before, after], 0.0
    for frame in range(place, after):
        if pictures.deviation[frame] <= FLAT:
            continue
        to_before = distance[before, frame]
        now = (far + to_before - distance[frame, after]) / (2 * far)
        if not share - 0.05 <= now <= 1.05 or to_before - now**2 * far > ERROR * far:
            return False
        share = now
    return True


def _measures(pictures: Pictures, frames: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the frame before each of `frames` and that after `count` mixed ones: their difference over the changes around
    them, their likeness, and the least difference of either to what is beyond the other, over theirs."""
    distance = pictures.distance
    step = np.diagonal(distance, 1)
    before, after = frames - 1, frames + count
    far = distance[before, after]
    around = np.maximum(step[before - 1], step[before - 2]) + np.maximum(step[after], step[after + 1])
    ratio = np.where(far > LEAST, far / (around + CALM) / (count + 1), 0)
    later = [distance[before, after + further] for further in range(1, RETURN + 1)]
    earlier = [distance[before - further, after] for further in range(1, RETURN + 1)]
    return ratio, pictures.likeness(before, after), np.min([*later, *earlier], axis=0) / (far + 1)
