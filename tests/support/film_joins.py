"""How a made film goes from one shot to the next: cuts, blends, dissolves, fades, wipes of several shapes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from curate.shots.base import TransitionKind

Effect = Literal[
    "cut", "blend", "dissolve", "fade_black", "fade_white", "white_cut", "wipe", "wipe_diagonal", "wipe_soft", "iris"
]
KINDS: Mapping[Effect, TransitionKind] = {
    "cut": "cut", "blend": "blend",
    "dissolve": "gradual", "wipe": "gradual", "wipe_diagonal": "gradual", "wipe_soft": "gradual", "iris": "gradual",
    "fade_black": "fade", "fade_white": "fade", "white_cut": "fade",
}  # fmt: skip
LENGTHS: Mapping[Effect, tuple[int, int]] = {
    "cut": (0, 0), "blend": (1, 1), "dissolve": (4, 48), "fade_black": (4, 24), "fade_white": (4, 24),
    "white_cut": (4, 24), "wipe": (6, 36), "wipe_diagonal": (6, 36), "wipe_soft": (6, 36), "iris": (6, 36),
}  # fmt: skip
"""Frames that mix, fewest and most. A fade has as many of either shot, and its color between them."""
COLORS: Mapping[Effect, int] = {"fade_black": 0, "fade_white": 255, "white_cut": 255}
ONE_SIDED = frozenset[Effect]({"white_cut"})
"""Fades whose color ends with a cut."""
SOFT = 0.3
"""Width of a soft edge, of the picture's."""
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
        """That belong to no shot."""
        return self.mixed_before + self.hold + self.mixed_after if self.effect in COLORS else self.mixed

    @property
    def mixed_before(self) -> int:
        """Of the shot before."""
        return self.mixed

    @property
    def mixed_after(self) -> int:
        """Of the shot after."""
        return 0 if self.effect in ONE_SIDED else self.mixed


def mixes(join: Join, before: np.ndarray, after: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """The frames of a transition. `before` and `after` are the mixed frames of either shot."""
    if join.effect in COLORS:
        color = np.full(before.shape[1:], COLORS[join.effect], np.uint8)
        yield from dissolve(before, [color] * join.mixed)
        yield from [color] * join.hold
        yield from dissolve([color] * len(after), after)
    elif join.effect in SHAPES:
        yield from wipe(before, after, join.effect, turns=seed % 4)
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


def wipe(before: np.ndarray, after: np.ndarray, effect: Effect, turns: int) -> Iterator[np.ndarray]:
    """The next shot comes in behind an edge, from the left for 0 turns, counterclockwise."""
    height, width = before.shape[1:3]
    across, soft = SHAPES[effect]
    field = np.rot90(across(*(width, height)[:: -1 if turns % 2 == 0 else 1]), turns)
    for number, (one, other) in enumerate(zip(before, after, strict=True), 1):
        reached = number / (len(before) + 1) * (1 + soft)
        share = np.clip((reached - field) / soft, 0, 1) if soft else (field < reached).astype(np.float32)
        yield np.rint(one + (other.astype(np.float32) - one) * share[:, :, None]).astype(np.uint8)


def straight(height: int, width: int) -> np.ndarray:
    """`(height, width)`, 0 where the next shot is seen first, 1 where last."""
    return np.broadcast_to((np.arange(width, dtype=np.float32) + 0.5) / width, (height, width))


def diagonal(height: int, width: int) -> np.ndarray:
    return (straight(height, width) + straight(width, height).T) / 2


def round_(height: int, width: int) -> np.ndarray:
    return np.hypot(2 * straight(height, width) - 1, 2 * straight(width, height).T - 1) / np.sqrt(2)


SHAPES: Mapping[Effect, tuple[Callable[[int, int], np.ndarray], float]] = {
    "wipe": (straight, 0), "wipe_diagonal": (diagonal, 0), "wipe_soft": (straight, SOFT), "iris": (round_, 0),
}  # fmt: skip
"""When each pixel changes, and the width of the edge."""
