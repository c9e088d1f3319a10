"""Letterbox: constant dark bars at the edges of the frame, and the content box between them."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from curate.rules import Column, Rule
from curate.signals.base import ScanFrame

BAR_LUMA = 20
"""A row or column belongs to a bar where none of its pixels is brighter, of 255."""


class LetterboxSignal:
    """`letterbox_fraction`: share of the frame's area under bars that are dark in every frame of the clip, 0 to 1.

    `box_top`, `box_left`, `box_bottom`, `box_right` are the content box, as shares of the displayed height and width:
    0, 0, 1, 1 is the whole frame. They are exact to about one pixel of the low-resolution pass. Completely dark frames
    are ignored; a clip of such frames alone has no bars. A night sky can look like a bar; a caption in a bar ends it.
    """

    columns: ClassVar[Mapping[str, Column]] = {
        "letterbox_fraction": Column(
            description="share of the frame under constant dark bars", range=(0, 1), default=Rule(max=0.05)
        ),
        "box_top": Column(description="top of the content box, share of the height", range=(0, 1)),
        "box_left": Column(description="left of the content box, share of the width", range=(0, 1)),
        "box_bottom": Column(description="bottom of the content box, share of the height", range=(0, 1)),
        "box_right": Column(description="right of the content box, share of the width", range=(0, 1)),
    }
    num_values: ClassVar[int] = 4  # bars at the left, top, right, bottom, as shares of the side; NaN in dark frames

    def measure(self, frame: ScanFrame) -> tuple[float, ...]:
        bright = frame.luma > BAR_LUMA
        height, width = bright.shape
        top, bottom = _bar(bright), _bar(bright[::-1])
        if top == height:
            return (np.nan,) * 4
        return _bar(bright.T) / width, top / height, _bar(bright.T[::-1]) / width, bottom / height

    @staticmethod
    def summarize(values: np.ndarray, starts_s: np.ndarray, end_s: float) -> dict[str, float]:
        seen = values[~np.isnan(values[:, 0])]
        left, top, right, bottom = (float(side) for side in seen.min(axis=0)) if len(seen) else (0.0,) * 4
        return {
            "letterbox_fraction": 1 - (1 - left - right) * (1 - top - bottom),
            "box_top": top,
            "box_left": left,
            "box_bottom": 1 - bottom,
            "box_right": 1 - right,
        }


def _bar(bright: np.ndarray) -> int:
    """How many rows from the first one on have no bright pixel."""
    thickness = 0
    for row in bright:
        if row.any():
            break
        thickness += 1
    return thickness
