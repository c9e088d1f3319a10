"""The default detector: cheap tests of every frame, and TransNet V2 only where a dissolve is likely or a cut in doubt.

Windows are 150 frames. The network sees the middle 100, at the places that `transnetv2` gives it, so its probabilities
are the same.
"""

from collections.abc import Collection
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from curate.encoders import weights
from curate.shots import dissolves, jumps, wipes
from curate.shots.base import Timeline, Transition, TransitionKind, Window
from curate.shots.fades import find_fades
from curate.shots.pictures import FLAT, WIDE, Pictures
from curate.shots.ranges import joined, runs
from curate.shots.transnetv2 import WEIGHTS, Model

BACK, STRIDE, AHEAD = 50, 50, 50
SEEN = slice(25, 125)
"""What the network sees of a window."""
NEAR = 6
"""Frames from a likely dissolve to the frames whose probabilities are asked for."""
CUT, MIXED, CONTRAST, LIKENESS, WIPE, LIKELY, ONE, ALL = range(8)
"""The scores: a cut before this frame (0, 0.5 in doubt, 1) and the mixed frames at it; deviation from the mean color,
0-255; likeness of the two frames around this one and the one before; in a wipe; in a
likely dissolve; the probabilities of TransNet V2's heads, 0 where it was not asked. Likeness is 1 where little of the
picture changes."""
UNLIKE = 0.8
"""Likeness from which on the picture goes on: one frame that the network marks there is a flash or a jump of light."""
MANY_LIKELY = 20
"""Frames of a likely dissolve from which on half the probability is enough."""
FEWEST = 3
"""Likely frames of a dissolve: the shortest ones have fewer, and cuts in doubt."""
LIT, MOST_GAIN = 160, 4.0
"""Frames are made as bright as this, of 255, where nothing around them is: dark shots differ as bright ones do."""
FAINT = 0.02
"""Probability down to which the frames around marked ones are part of their transition."""
LONGER = 8
"""One more frame is left out on either side for so many of a dissolve or wipe: the longer it is, the fainter it
begins."""
MOST_SHORT = 2
"""Frames of a blend."""
WIPE_MARGIN = 2


class CascadeConfig(BaseModel):
    """Cheap tests on every frame, TransNet V2 where they do not suffice: cuts, blends, fades, dissolves and wipes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["cascade"] = "cascade"
    threshold: float = Field(
        0.4, gt=0, lt=1, description="TransNet V2's probability from which on a frame is part of a transition, 0-1"
    )
    margin_frames: int = Field(
        2, ge=0, description="frames left out before and after those of a dissolve, which begins faintly"
    )
    max_gap_s: float = Field(
        0.5, ge=0, description="longest black or white between two hard cuts that is in no clip, in seconds"
    )
    device: str = Field("cpu", description="of the network: auto, cpu, cuda or cuda:<n>")

    def build(self) -> "CascadeDetector":
        return CascadeDetector(self)


class CascadeDetector:
    """The scores of a frame: `CUT` to `ALL`. The network is loaded for the first window that needs it."""

    window = Window(back=BACK, stride=STRIDE, ahead=AHEAD, size_px=(27, 48), aligned=True)
    num_scores = 8

    def __init__(self, config: CascadeConfig) -> None:
        self._config = config
        self._model = Model(config.device, fast=True)
        self.uses_gpu = config.device != "cpu"

    def digest(self, uri: str) -> str:
        return weights.digest(WEIGHTS)

    def check(self, uris: Collection[str]) -> list[str]:
        self._model.check()
        return []

    def setup(self) -> None:
        """Raises:
        MissingWeights: they were not fetched.
        """
        self._model.check()

    def score(self, windows: np.ndarray) -> np.ndarray:
        """`(b, 150, 27, 48, 3)` to `(b, 50, 8)`."""
        return np.stack([self._score(window) for window in windows])

    def transitions(self, scores: np.ndarray, timeline: Timeline) -> list[Transition]:
        return _Decision(scores, self._config, float(timeline.fps)).transitions()

    def _score(self, window: np.ndarray) -> np.ndarray:
        gain = min(MOST_GAIN, max(1.0, LIT / max(1.0, float(np.percentile(window[::5], 99.5)))))
        lit = window if gain == 1 else np.minimum(window * np.float32(gain), 255).astype(np.uint8)
        pictures, own = Pictures(lit), slice(BACK, BACK + STRIDE)
        around = range(jumps.REACH_BACK, len(window) - jumps.REACH_AHEAD)
        found = jumps.find_jumps(pictures, around.start, around.stop)
        cuts = around.start + np.flatnonzero(found.strength == 1)
        edges = np.union1d(cuts, cuts + found.mixed[cuts - around.start].astype(int))
        near = (BACK - NEAR, BACK + STRIDE + NEAR)
        wiped = wipes.find_wipes(pictures, *near, edges)
        likely = dissolves.likely_dissolves(pictures, *near, edges) & ~wiped
        scores = np.zeros((STRIDE, self.num_scores))
        inner = slice(BACK - around.start, BACK - around.start + STRIDE)
        scores[:, CUT], scores[:, MIXED] = found.strength[inner], found.mixed[inner]
        scores[:, CONTRAST] = (pictures.deviation[own] / gain).round(2)
        frames = np.arange(own.start, own.stop)
        around_it = frames - 2, frames + 1
        is_wide = pictures.changed(*around_it) > WIDE
        scores[:, LIKENESS] = np.where(is_wide, pictures.likeness(*around_it), 1).round(4)
        scores[:, WIPE], scores[:, LIKELY] = wiped[NEAR:-NEAR], likely[NEAR:-NEAR]
        doubt = found.strength[inner.start - 1 : inner.stop] == 0.5
        dim = pictures.deviation <= 2 * FLAT
        near_fade = np.lib.stride_tricks.sliding_window_view(dim, jumps.MOST_MIXED + 2)[own.start - 2 : own.stop - 1]
        doubt &= ~near_fade.any(axis=1)
        if doubt.any() or likely.sum() >= FEWEST:
            scores[:, ONE:] = self._model(lit[SEEN])[BACK - SEEN.start : BACK - SEEN.start + STRIDE]
        return scores


class _Decision:
    """From the scores of a whole file to its transitions. What lies in a longer one is part of it."""

    def __init__(self, scores: np.ndarray, config: CascadeConfig, fps: float) -> None:
        self._scores, self._config, self._fps = scores, config, fps
        self._count = len(scores)
        doubt = scores[:, CUT] == 0.5
        doubt[:-1] |= doubt[1:]
        self._marked = runs(np.where(doubt, scores[:, ONE:].max(axis=1), scores[:, ALL]) >= config.threshold)

    def transitions(self) -> list[Transition]:
        long = self._long
        taken = np.zeros(self._count + 1, bool)
        for one in long:
            taken[max(0, one.first - 1) : one.end + 2] = True
        short = [one for one in self._short if not taken[one.first : one.end + 1].any()]
        return joined(sorted([*long, *short]))

    @property
    def _long(self) -> list[Transition]:
        fades = find_fades(self._scores[:, CONTRAST], round(self._config.max_gap_s * self._fps))
        wiped = [self._gradual(*each, WIPE_MARGIN) for each in runs(self._scores[:, WIPE] > 0)]
        dissolved = [
            self._gradual(*self._core(first, end), self._config.margin_frames)
            for first, end in runs(self._scores[:, ALL] >= FAINT)
            if any(first <= one < end and other - one > MOST_SHORT for one, other in self._marked)
            or self._is_long(first, end)
        ]
        return joined(sorted([*fades, *wiped, *dissolved]))

    def _is_long(self, first: int, end: int) -> bool:
        likely, probable = self._scores[first:end, LIKELY], self._scores[first:end, ALL]
        return bool(likely.sum() >= MANY_LIKELY and probable.max() >= self._config.threshold / 2)

    def _core(self, first: int, end: int) -> tuple[int, int]:
        """Without faint frames that are further from the marked ones than these from each other."""
        marked = first + np.flatnonzero(self._scores[first:end, ALL] >= self._config.threshold)
        if not len(marked):
            return first, end
        reach = int(marked[-1] - marked[0]) + MOST_SHORT
        return max(first, int(marked[0]) - reach), min(end, int(marked[-1]) + 1 + reach)

    @property
    def _short(self) -> list[Transition]:
        """Cuts and blends: those without doubt, and one or two frames that the network marks elsewhere."""
        cut, mixed = self._scores[:, CUT], self._scores[:, MIXED].astype(int)
        found = [self._jump(place, int(mixed[place])) for place in np.flatnonzero(cut == 1).tolist()]
        near = np.zeros(self._count + 1, bool)
        for one in found:
            near[max(0, one.first - 3) : one.end + 3] = True
        likeness = self._scores[:, LIKENESS]
        for first, end in self._marked:
            is_short = end - first <= MOST_SHORT and end < self._count
            if is_short and np.median(likeness[first : end + 2]) < UNLIKE and not near[first]:
                # A mark on one frame is of the last one before a cut, or of a blend.
                found.append(self._jump(end, 0) if end - first == 1 and cut[end] else self._jump(first, end - first))
        return found

    def _jump(self, place: int, mixed: int) -> Transition:
        is_flat = mixed > 0 and bool((self._scores[place : place + mixed, CONTRAST] <= FLAT).all())
        kind: TransitionKind = "cut" if not mixed else "fade" if is_flat else "blend"
        return Transition(place, place + mixed, kind)

    def _gradual(self, first: int, end: int, margin: int) -> Transition:
        margin += (end - first) // LONGER
        return Transition(max(0, first - margin), min(self._count, end + margin), "gradual")
