"""Fades: frames of one color, and the frames on either side whose contrast falls to them and rises from them."""

import numpy as np

from curate.shots.base import Transition
from curate.shots.pictures import FLAT
from curate.shots.ranges import runs

LEAST_STEP = 0.3
"""Change of contrast that goes on with a fade, of its first ones."""
MARGIN = 2
"""Frames that are left out further, as a fade can begin slowly."""
LONGEST_FLASH = 5
"""Frames; shorter gaps are told from flashes by the pictures around them (`curate.shots.jumps`)."""
LONGEST = 160
"""Frames of one side."""


def find_fades(deviation: np.ndarray, max_gap: int) -> list[Transition]:
    """Fades and short gaps of one color.

    Args:
        deviation: `(n,)`, of each frame's pixels from its mean color, of all frames of a file.
        max_gap: Most frames of one color between hard cuts that count as a transition.
    """
    found = []
    for first, end in runs(deviation <= FLAT):
        before, after = _ramp(deviation[:first][::-1]), _ramp(deviation[end:])
        if before or after:
            found.append(Transition(first - before, end + after, "fade"))
        elif first > 0 and end < len(deviation) and LONGEST_FLASH < end - first <= max_gap:
            found.append(Transition(first, end, "fade"))
    return found


def _ramp(deviation: np.ndarray) -> int:
    """Frames of a ramp that rises from about 0, with a margin; 0 for none."""
    steps = np.diff(deviation[:LONGEST], prepend=0.0)
    if len(steps) < 4:
        return 0
    usual = float(np.median(steps[1:4]))
    if usual <= 0 or steps[0] > 3 * usual + FLAT:  # a cut to one color
        return 0
    length = int(np.argmax(np.append(steps < LEAST_STEP * usual, True)))
    if length < 3 or deviation[length - 1] < 2 * FLAT:
        return 0
    return min(length + MARGIN, len(deviation))
