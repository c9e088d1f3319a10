"""The frames of a window in 24 × 13 cells, and how far any two of them are apart: what cheap tests of cuts look at."""

from functools import cached_property

import numpy as np

ROWS, COLUMNS = 13, 24
FLAT = 3.0
"""Deviation, of 255, up to which a frame is of one color."""
CHANGED = 0.05
"""Squared difference of a cell that shows something else, of the mean one."""
WIDE = 0.48
"""Share of the cells that change at a cut, at least."""


class Pictures:
    """Mixtures of frames stay mixtures of cells, so every test is a matter of a few products of vectors.

    Args:
        frames: `(T, 27, 48, 3)` uint8 RGB.
    """

    def __init__(self, frames: np.ndarray) -> None:
        import cv2

        count = len(frames)
        column = np.ascontiguousarray(frames[:, : 2 * ROWS]).reshape(count * 2 * ROWS, 2 * COLUMNS, 3)
        cells = cv2.resize(column, (COLUMNS, count * ROWS), interpolation=cv2.INTER_AREA)
        self.cells = cells.reshape(count, ROWS, COLUMNS, 3).astype(np.float32)
        self.means = self.cells.mean(axis=(1, 2))  # (T, 3)
        centered = (self.cells - self.means[:, None, None]).reshape(len(frames), -1)
        self._products = centered @ centered.T / centered.shape[1]
        self.variance = np.diagonal(self._products)  # (T,)

    @cached_property
    def distance(self) -> np.ndarray:
        """`(T, T)`, mean squared difference of two frames."""
        of_means = ((self.means[:, None] - self.means[None]) ** 2).mean(axis=2)
        apart = self.variance[:, None] + self.variance[None] - 2 * self._products
        return np.asarray(np.maximum(apart, 0) + of_means)

    @cached_property
    def deviation(self) -> np.ndarray:
        """`(T,)`, standard deviation of a frame's cells from its mean color."""
        return np.sqrt(np.maximum(self.variance, 0))

    def changed(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Share of the cells that show something else in the other frame, 0 to 1. A title or bars change few."""
        change = ((self.cells[other] - self.cells[one]) ** 2).mean(axis=3).reshape(len(one), ROWS * COLUMNS)
        return np.asarray((change > CHANGED * change.mean(axis=1, keepdims=True)).mean(axis=1))

    def likeness(self, one: np.ndarray | int, other: np.ndarray | int) -> np.ndarray:
        """Correlation of two frames, -1 to 1, whatever their brightness and contrast; 0 where one is of one color."""
        scale = self.deviation[one] * self.deviation[other]
        flat = np.minimum(self.deviation[one], self.deviation[other]) <= FLAT / 3
        return np.where(flat, 0.0, self._products[one, other] / np.maximum(scale, 1e-6))
