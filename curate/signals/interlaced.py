"""Interlacing: pictures of two moments, line by line, as old broadcasts have them."""

from typing import ClassVar

import numpy as np

from curate.signals.base import ScanFrame


class InterlacedSignal:
    """`interlaced_fraction`: share of the clip's frames that say that they are interlaced."""

    names: ClassVar[tuple[str, ...]] = ("interlaced_fraction",)
    num_values: ClassVar[int] = 1

    def measure(self, frame: ScanFrame) -> tuple[float, ...]:
        return (float(frame.interlaced),)

    @staticmethod
    def summarize(values: np.ndarray, starts_s: np.ndarray, end_s: float) -> dict[str, float]:
        return {"interlaced_fraction": float(values.mean())}
