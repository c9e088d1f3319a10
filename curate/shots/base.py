"""What a shot detector is: a number per frame, then the cuts."""

from fractions import Fraction
from typing import Protocol

import numpy as np


class ShotDetector(Protocol):
    """Stateful: one instance per pass. The number of a frame depends on it and the frame before; the cuts are decided
    over all numbers at once, so frames may be measured in parts with one frame of overlap."""

    def measure(self, rgb: np.ndarray) -> float:
        """How much this frame, `(h, w, 3)` uint8, differs from the one before; 0 for the first one."""
        ...

    def cuts(self, scores: np.ndarray, pts: np.ndarray, time_base: Fraction, fps: Fraction) -> list[int]:
        """Numbers of the frames that begin a shot, but for the first frame; increasing.

        Args:
            scores: `(n,)` what `measure` gave.
            pts: `(n,)` int64, when each frame is shown, in units of `time_base` seconds.
            time_base: Seconds per tick.
            fps: Average rate.
        """
        ...
