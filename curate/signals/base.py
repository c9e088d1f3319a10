"""What a cheap signal is: numbers per frame of the scan's pass, and their summary per clip.

The numbers of a frame depend on that frame and a bounded past: on no frame before the whole second of the clock in
which its predecessor is shown. A long file can therefore be measured in parts. The summary sees numbers only, so the
cuts can be decided after the pass.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol

import numpy as np

from curate.rules import Column


@dataclass(frozen=True, kw_only=True)
class ScanFrame:
    """One frame of the pass.

    Attributes:
        shown_s: Time at which it is first shown, seconds.
        rgb: `(h, w, 3)` uint8, at the low resolution of the pass.
        interlaced: The decoder's flag.
    """

    shown_s: float
    rgb: np.ndarray
    interlaced: bool = False

    @cached_property
    def luma(self) -> np.ndarray:
        """`(h, w)` uint8, 0.299 R + 0.587 G + 0.114 B."""
        import cv2

        return np.asarray(cv2.cvtColor(self.rgb, cv2.COLOR_RGB2GRAY))

    @cached_property
    def mean_luma(self) -> float:
        """Mean luma, 0 to 1."""
        return self._luma_moments[0]

    @cached_property
    def luma_contrast(self) -> float:
        """Standard deviation of luma, 0 to 0.5."""
        return self._luma_moments[1]

    @cached_property
    def _luma_moments(self) -> tuple[float, float]:
        import cv2

        mean, deviation = cv2.meanStdDev(self.luma)
        return float(mean[0, 0]) / 255, float(deviation[0, 0]) / 255


class FrameSignal(Protocol):
    """One family of cheap signals. Stateful: one instance per pass, frames in order."""

    columns: ClassVar[Mapping[str, Column]]
    """The clip's signals that `summarize` gives, float64: columns of the clips table, with their default rules."""

    num_values: ClassVar[int]
    """How many numbers `measure` gives."""

    def measure(self, frame: ScanFrame) -> tuple[float, ...]:
        """This frame's numbers."""
        ...

    @staticmethod
    def summarize(values: np.ndarray, starts_s: np.ndarray, end_s: float) -> dict[str, float]:
        """A clip's signals.

        Args:
            values: `(n, num_values)` float64: the numbers of the clip's frames, n >= 1.
            starts_s: `(n,)` when each is shown, seconds.
            end_s: When the last one ends.
        """
        ...
