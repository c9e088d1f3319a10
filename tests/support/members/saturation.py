"""Saturation: how colorful the picture is."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from curate.rules import Column
from curate.signals.base import ScanFrame


class SaturationSignal:
    """`saturation`: mean difference of the largest and the smallest channel, 0 (gray) to 1."""

    columns: ClassVar[Mapping[str, Column]] = {
        "saturation": Column(description="mean color saturation, 0 (gray) to 1", range=(0, 1))
    }
    num_values: ClassVar[int] = 1

    def measure(self, frame: ScanFrame) -> tuple[float, ...]:
        return (float(np.ptp(frame.rgb, axis=2).mean()) / 255,)

    @staticmethod
    def summarize(values: np.ndarray, starts_s: np.ndarray, end_s: float) -> dict[str, float]:
        return {"saturation": float(values[:, 0].mean())}
