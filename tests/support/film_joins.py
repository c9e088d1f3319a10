"""How a made film goes from one shot to the next: cuts, blends, dissolves, fades, wipes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from curate.shots.base import TransitionKind

Effect = Literal["cut", "blend", "dissolve", "fade_black", "fade_white", "wipe"]
KINDS: Mapping[Effect, TransitionKind] = {
    "cut": "cut", "blend": "blend",
    "dissolve": "gradual", "wipe": "gradual",
    "fade_black": "fade", "fade_white": "fade",
}  # fmt: skip
LENGTHS: Mapping[Effect, tuple[int, int]] = {
    "cut": (0, 0), "blend": (1, 1), "dissolve": (4, 48), "wipe": (6, 36), "fade_black": (4, 24), "fade_white": (4, 24),
}  # fmt: skip
"""Frames that mix, fewest and most. A fade has as many of either shot, and its color between them."""
COLORS: Mapping[Effect, int] = {"fade_black": 0, "fade_white": 255}
HOLD = (1, 12)
"""Frames of nothing but color in a fade."""


@dataclass(frozen=True, kw_only=True)
class Join:
    """From one shot to the next: `mixed` frames that show either shot, and `hold` frames of a fade that show none."""

    effect: Effect
    mixed: int
    hold: int = 0

    @property
    def num_frames(self) -> int:
        return 2 * self.mixed + self.hold if self.effect in COLORS else self.mixed


def mixes(join: Join, before: np.ndarray, after: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """The frames of a transition. `before` and `after` are the `mixed` frames of either shot."""
    if join.effect in COLORS:
        color = np.full(before.shape[1:], COLORS[join.effect], np.uint8)
        yield from dissolve(before, [color] * join.mixed)
        yield from [color] * join.hold
        yield from dissolve([color] * join.mixed, after)
    elif join.effect == "wipe":
        yield from wipe(before, after, turns=seed % 4)
    elif join.effect == "blend":
        weight = 0.3 + seed % 5 / 10
        yield cv2.addWeighted(before[0], 1 - weight, after[0], weight, 0)
    else:
        yield from dissolve(before, after)


def dissolve(
    before: Sequence[np.ndarray] | np.ndarray, after: Sequence[np.ndarray] | np.ndarray
) -> Iterator[np.ndarray]:
    weights = np.arange(1, len(before) + 1) / (len(before) + 1)
    for one, other, weight in zip(before, after, weights, strict=True):
        yield cv2.addWeighted(one, 1 - weight, other, weight, 0)


def wipe(before: np.ndarray, after: np.ndarray, turns: int) -> Iterator[np.ndarray]:
    """The next shot comes in behind a straight edge, from the left for 0 turns, counterclockwise."""
    for number, (one, other) in enumerate(zip(before, after, strict=True), 1):
        picture, coming = np.rot90(one, -turns).copy(), np.rot90(other, -turns)
        edge = round(picture.shape[1] * number / (len(before) + 1))
        picture[:, :edge] = coming[:, :edge]
        yield np.ascontiguousarray(np.rot90(picture, turns))
