"""Interlacing: frames that hold two fields of different times, as in broadcasts."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from curate.rules import Column
from curate.signals.base import ScanFrame


class InterlacedSignal:
    """`interlaced_fraction`: share of the clip's frames that the decoder marks as interlaced."""

    columns: ClassVar[Mapping[str, Column]] = {
        "interlaced_fraction": Column(
            description="share of the frames that are interlaced; max 0 drops such clips, see also deinterlace",
            range=(0, 1),
        )
    }
    num_values: ClassVar[int] = 1

    def measure(self, frame: ScanFrame) -> tuple[float, ...]:
        return (float(frame.interlaced),)

    @staticmethod
    def summarize(values: np.ndarray, starts_s: np.ndarray, end_s: float) -> dict[str, float]:
        """`values`: `(n, 1)`, 1 for an interlaced frame, else 0."""
        return {"interlaced_fraction": float(values.mean())}
