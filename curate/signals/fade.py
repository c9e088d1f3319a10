"""Fade: the share of a clip's time in fades from or to black or white."""

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from curate.rules import Column, Rule
from curate.signals.base import ScanFrame

STEPS_PER_SECOND = 8
MIN_FADE_S = 0.25
MIN_CONTRAST = 0.04
"""Least contrast at the strong end of a fade."""

MAX_SHARE_LEFT = 0.25
"""Largest contrast at the faint end, as a share of that at the strong end."""

STILL_CONTRAST = 0.002
"""Half a gray level; smaller steps are noise."""

NOISE_CONTRAST = 0.02
"""Contrast up to which the flat color of a frame cannot be measured."""

MAX_DRIFT = 1.5
"""Largest change, during a fade, of the ratio of distance from the flat color to contrast."""

FLAT_LUMA = 0.06
"""Largest luma of black, and 1 minus the smallest luma of white."""


class FadeSignal:
    """`fade_fraction`: share of the clip's time in fades from or to black or white, 0 to 1.

    A fade mixes a frame with a flat color. The contrast of its luma (standard deviation) and the distance of its mean
    luma from the flat color then shrink by the same factor. A fade is a stretch of at least 1/4 s in which the
    contrast only falls or only rises, by at least three quarters, nearly in step with the distance from black or from
    white. The flat frames before or after it are not counted: see `black_fraction`. Dissolves between two shots are
    not found.
    """

    columns: ClassVar[Mapping[str, Column]] = {
        "fade_fraction": Column(
            description="share of the time in fades from or to black or white",
            range=(0, 1),
            default=Rule(max=0.5),
            for_images=False,
        )
    }
    num_values: ClassVar[int] = 2  # mean and standard deviation of luma

    def measure(self, frame: ScanFrame) -> tuple[float, ...]:
        return frame.mean_luma, frame.luma_contrast

    @staticmethod
    def summarize(values: np.ndarray, starts_s: np.ndarray, end_s: float) -> dict[str, float]:
        # Slow fades change less from frame to frame than noise does, so steps of an eighth of a second are compared.
        ticks = np.floor((starts_s - starts_s[0]) * STEPS_PER_SECOND + 1e-6)
        steps = np.flatnonzero(np.append(True, np.diff(ticks) > 0))
        mean, contrast = values[steps].T
        times_s = starts_s[steps]
        faded_s = 0.0
        for first, last in _monotone(contrast):
            run = slice(first, last + 1)
            if times_s[last] - times_s[first] > MIN_FADE_S - 1e-6 and _ends_flat(mean[run], contrast[run]):
                faded_s += times_s[last] - times_s[first]
        return {"fade_fraction": min(1.0, faded_s / (end_s - starts_s[0]))}


def _monotone(contrast: np.ndarray) -> list[tuple[int, int]]:
    """First and last step of each stretch in which the contrast changes in one direction."""
    runs: list[tuple[int, int]] = []
    direction = 0.0
    for number, change in enumerate(np.diff(contrast).tolist()):
        if abs(change) <= STILL_CONTRAST:
            continue
        if math.copysign(1, change) == direction and number - runs[-1][1] <= 1:
            runs[-1] = (runs[-1][0], number + 1)
        else:
            direction = math.copysign(1, change)
            runs.append((number, number + 1))
    return runs


def _ends_flat(mean: np.ndarray, contrast: np.ndarray) -> bool:
    """Whether a stretch `(n,)` of mean luma and contrast, each 0-1, is a mix with black or with white."""
    strong, faint = contrast.max(), contrast.min()
    if strong < MIN_CONTRAST or faint > MAX_SHARE_LEFT * strong:
        return False
    _, flat = np.polyfit(contrast, mean, 1)  # where the contrast would be 0
    flat = np.clip(flat, 0, FLAT_LUMA) if flat < 0.5 else np.clip(flat, 1 - FLAT_LUMA, 1)
    seen = contrast > NOISE_CONTRAST
    ratio = np.abs(mean[seen] - flat) / contrast[seen]
    return bool(ratio.max() <= MAX_DRIFT * ratio.min())
