"""Luminance: how bright the frames are, and how many are black."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from curate.rules import Column, Rule
from curate.signals.base import ScanFrame

BLACK_LUMA = 25
BLACK_FRAME_SHARE = 0.98
"""A frame is black where 98 % of its pixels have a luma of at most 10 % (the defaults of FFmpeg's blackdetect)."""


class LuminanceSignal:
    """`luminance`: mean luma, 0 to 1. `black_fraction`: share of the frames that are black."""

    columns: ClassVar[Mapping[str, Column]] = {
        "luminance": Column(
            description="mean luma, 0 (black) to 1 (white)", range=(0, 1), default=Rule(min=0.06, max=0.97)
        ),
        "black_fraction": Column(
            description="share of the frames that are black", range=(0, 1), default=Rule(max=0.5)
        ),
    }
    num_values: ClassVar[int] = 2  # mean luma, share of dark pixels

    def measure(self, frame: ScanFrame) -> tuple[float, ...]:
        return frame.mean_luma, np.count_nonzero(frame.luma <= BLACK_LUMA) / frame.luma.size

    @staticmethod
    def summarize(values: np.ndarray, starts_s: np.ndarray, end_s: float) -> dict[str, float]:
        """`values`: `(n, 2)`, mean luma and share of dark pixels per frame, both 0-1."""
        return {
            "luminance": float(values[:, 0].mean()),
            "black_fraction": float((values[:, 1] >= BLACK_FRAME_SHARE).mean()),
        }
