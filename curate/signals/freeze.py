"""Freeze: the share of a clip's time in which frames repeat."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from curate.rules import Column, Rule
from curate.signals.base import ScanFrame

FREEZE_DIFFERENCE = 0.001
"""Mean absolute difference of luma, 0-1, up to which two frames are equal (FFmpeg's freezedetect: -60 dB)."""

FREEZE_MIN_S = 0.5
"""Repeated frames of a slower original, as in animation on twos, are no freeze."""


class FreezeSignal:
    """`freeze_fraction`: share of the clip's time in stretches of at least 0.5 s in which each frame repeats one."""

    columns: ClassVar[Mapping[str, Column]] = {
        "freeze_fraction": Column(
            description="share of the time in which frames repeat",
            range=(0, 1),
            default=Rule(max=0.9),
            for_images=False,
        )
    }

    num_values: ClassVar[int] = 1

    def __init__(self) -> None:
        self._previous: np.ndarray | None = None

    def measure(self, frame: ScanFrame) -> tuple[float, ...]:
        import cv2

        previous, self._previous = self._previous, frame.luma
        if previous is None or previous.shape != frame.luma.shape:
            return (1.0,)
        return (float(cv2.norm(previous, frame.luma, cv2.NORM_L1)) / frame.luma.size / 255,)

    @staticmethod
    def summarize(values: np.ndarray, starts_s: np.ndarray, end_s: float) -> dict[str, float]:
        # A stretch begins with a frame that differs from its predecessor, or with the clip.
        begins = np.flatnonzero(np.append(True, values[1:, 0] > FREEZE_DIFFERENCE))
        lengths = np.diff(np.append(starts_s[begins], end_s))
        frozen = float(lengths[lengths >= FREEZE_MIN_S].sum())
        return {"freeze_fraction": min(1.0, frozen / (end_s - starts_s[0]))}
