"""What a cheap signal is: numbers per frame of the scan's pass, and their summary per clip.

The numbers of a frame depend on that frame and a bounded past, so a long file can be measured in parts; the summary
sees numbers only, so the cuts may be decided after the pass.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol

import numpy as np


@dataclass(frozen=True, kw_only=True)
class ScanFrame:
    """One frame of the pass: `rgb` is `(h, w, 3)` uint8, small; `shown_s` is when it is first shown, in seconds."""

    shown_s: float
    rgb: np.ndarray

    @cached_property
    def luma(self) -> np.ndarray:
        """`(h, w)` uint8, 0.299 R + 0.587 G + 0.114 B."""
        import cv2

        return np.asarray(cv2.cvtColor(self.rgb, cv2.COLOR_RGB2GRAY))


class FrameSignal(Protocol):
    """One family of cheap signals. Stateful: one instance per pass, frames in order."""

    names: ClassVar[tuple[str, ...]]
    """The clip's signals that `summarize` gives: columns of the clips table."""

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
