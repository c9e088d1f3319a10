"""Flash: how often the whole frame changes its brightness and changes back."""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import ClassVar

import numpy as np

from curate.rules import Column, Rule
from curate.signals.base import ScanFrame

FLASH_STEP = 0.1
"""Least change of the mean luma, of 1, on either side of a flash: a tenth of the maximum, as in WCAG 2.3.1."""

FLASH_S = 0.5
"""Longest time from the first change to the end of the second."""

BEGUN, DONE = 0.2, 0.8
"""Shares of a change between which it is timed: noise before and after it does not lengthen it."""


class FlashSignal:
    """`flash_rate`: flashes per second, of the mean luma of the frame.

    A flash is a pair of opposing changes of luma by at least 0.1 within 1/2 s: lightning, a strobe, a photographer's
    flash, a black frame. WCAG 2.3.1 calls more than three in a second dangerous. A flash in a corner of the
    frame, which hardly changes the mean, is not found.
    """

    columns: ClassVar[Mapping[str, Column]] = {
        "flash_rate": Column(
            description="flashes per second; more than three are dangerous to look at (WCAG 2.3.1)",
            range=(0, math.inf),
            default=Rule(max=3.0),
            for_images=False,
        )
    }
    num_values: ClassVar[int] = 1

    def measure(self, frame: ScanFrame) -> tuple[float, ...]:
        return (frame.mean_luma,)

    @staticmethod
    def summarize(values: np.ndarray, starts_s: np.ndarray, end_s: float) -> dict[str, float]:
        luma = values[:, 0]
        changes = [_timed(luma, first, last) for first, last in pairwise(_extremes(luma.tolist()))]
        number = num_flashes = 0
        while number + 1 < len(changes):
            begun, done = changes[number][0], changes[number + 1][1]
            is_flash = starts_s[done] - starts_s[begun] <= FLASH_S
            num_flashes += is_flash
            number += 2 if is_flash else 1
        return {"flash_rate": num_flashes / (end_s - starts_s[0])}


def _extremes(luma: list[float]) -> list[int]:
    """Frames at which luma turns, each at least `FLASH_STEP` from the one before."""
    extremes: list[int] = []
    low = high = 0  # frames since the last extreme
    rises: bool | None = None
    for number, value in enumerate(luma):
        low = number if value < luma[low] else low
        high = number if value > luma[high] else high
        if rises is not False and luma[high] - value >= FLASH_STEP:
            extremes.append(high)
            rises, low, high = False, number, number
        elif rises is not True and value - luma[low] >= FLASH_STEP:
            extremes.append(low)
            rises, low, high = True, number, number
        elif rises is True and high == number:
            low = number
        elif rises is False and low == number:
            high = number
    return extremes if rises is None else [*extremes, high if rises else low]


def _timed(luma: np.ndarray, first: int, last: int) -> tuple[int, int]:
    """Frames at which the change between two extremes has begun and is done."""
    progress = (luma[first : last + 1] - luma[first]) / (luma[last] - luma[first])
    begun = np.flatnonzero(progress <= BEGUN)[-1]
    done = begun + np.flatnonzero(progress[begun:] >= DONE)[0]
    return first + int(begun), first + int(done)
