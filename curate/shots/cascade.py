"""The default detector: cheap tests of every frame, and TransNet V2 only where a dissolve is likely or a cut in doubt.

Windows are 150 frames. The network sees the middle 100, at the places that `transnetv2` gives it, so its probabilities
are the same.
"""

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from curate.shots import dissolves, jumps, wipes
from curate.shots.base import Timeline, Transition, TransitionKind, Window
from curate.shots.fades import find_fades
from curate.shots.pictures import FLAT, Pictures
from curate.shots.ranges import joined, runs
from curate.shots.transnetv2 import Model

BACK, STRIDE, AHEAD = 50, 50, 50
SEEN = slice(25, 125)
"""What the network sees of a window."""
NEAR = 6
"""Frames from a likely dissolve to the frames whose probabilities are asked for."""
CUT, MIXED, CONTRAST, LIKENESS, WIPE, ONE, ALL = range(7)
"""The scores: a cut before this frame (0, 0.5 in doubt, 1) and the mixed frames at it; deviation from the mean color,
0-255; likeness of the two frames around this one and the one before; in a wipe; the probabilities of TransNet V2's
heads, 0 where it was not asked."""
UNLIKE = 0.8
"""Likeness from which on the picture goes on: one frame that the network marks there is a flash or a jump of light."""
FAINT = 0.1
"""Probability down to which the frames around marked ones are part of their transition."""
LONGER = 8
"""One more frame is left out on either side for so many of a dissolve: the longer it is, the fainter it begins."""
MOST_SHORT = 2
"""Frames of a blend."""
WIPE_MARGIN = 1


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
    num_scores = 7

    def __init__(self, config: CascadeConfig) -> None:
        self._config = config
        self._model = Model(config.device, fast=True)
        self.uses_gpu = config.device != "cpu"

    def digest(self, uri: str) -> str:
        return self._model.digest

    def setup(self) -> None:
        """Raises:
        MissingWeights: they were not fetched.
        """
        self._model.check()

    def score(self, windows: np.ndarray) -> np.ndarray:
        """`(b, 150, 27, 48, 3)` to `(b, 50, 7)`."""
        return np.stack([self._score(window) for window in windows])

    def transitions(self, scores: np.ndarray, timeline: Timeline) -> list[Transition]:
        return _Decision(scores, self._config, float(timeline.fps)).transitions()

    def _score(self, window: np.ndarray) -> np.ndarray:
        pictures, own = Pictures(window), slice(BACK, BACK + STRIDE)
        around = range(jumps.REACH_BACK, len(window) - jumps.REACH_AHEAD)
        found = jumps.find_jumps(pictures, around.start, around.stop)
        cuts = around.start + np.flatnonzero(found.strength == 1)
        likely = dissolves.likely_dissolves(pictures, BACK - NEAR, BACK + STRIDE + NEAR, cuts)
        wiped = wipes.find_wipes(pictures, cuts)
        scores = np.zeros((STRIDE, self.num_scores))
        inner = slice(BACK - around.start, BACK - around.start + STRIDE)
        scores[:, CUT], scores[:, MIXED] = found.strength[inner], found.mixed[inner]
        scores[:, CONTRAST] = pictures.deviation[own].round(2)
        frames = np.arange(own.start, own.stop)
        scores[:, LIKENESS] = pictures.likeness(frames - 2, frames + 1).round(4)
        scores[:, WIPE] = wiped[own]
        doubt = found.strength[inner.start - 1 : inner.stop] == 0.5
        if doubt.any() or (likely & ~wiped[BACK - NEAR : BACK + STRIDE + NEAR]).any():
            scores[:, ONE:] = self._model(window[SEEN])[BACK - SEEN.start : BACK - SEEN.start + STRIDE]
        return scores


class _Decision:
    """From the scores of a whole file to its transitions. What lies in a longer one is part of it."""

    def __init__(self, scores: np.ndarray, config: CascadeConfig, fps: float) -> None:
        self._scores, self._config, self._fps = scores, config, fps
        self._count = len(scores)
        self._marked = runs(scores[:, ALL] >= config.threshold)

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
        strong = [first for first, end in self._marked if end - first > MOST_SHORT]
        dissolved = [
            self._gradual(first, end, self._config.margin_frames + (end - first) // LONGER)
            for first, end in runs(self._scores[:, ALL] >= FAINT)
            if any(first <= place < end for place in strong)
        ]
        return joined(sorted([*fades, *wiped, *dissolved]))

    @property
    def _short(self) -> list[Transition]:
        """Cuts and blends: those without doubt, and one or two frames that the network marks elsewhere."""
        cut, mixed = self._scores[:, CUT], self._scores[:, MIXED].astype(int)
        found = [self._jump(place, int(mixed[place])) for place in np.flatnonzero(cut == 1).tolist()]
        near = np.zeros(self._count + 1, bool)
        for one in found:
            near[max(0, one.first - 3) : one.end + 3] = True
        unlike = self._scores[:, LIKENESS] < UNLIKE
        for first, end in self._marked:
            if end - first <= MOST_SHORT and end < self._count and unlike[first : end + 2].any() and not near[first]:
                # A mark on one frame is of the last one before a cut, or of a blend.
                found.append(self._jump(end, 0) if end - first == 1 and cut[end] else self._jump(first, end - first))
        return found

    def _jump(self, place: int, mixed: int) -> Transition:
        is_flat = mixed > 0 and bool((self._scores[place : place + mixed, CONTRAST] <= FLAT).all())
        kind: TransitionKind = "cut" if not mixed else "fade" if is_flat else "blend"
        return Transition(place, place + mixed, kind)

    def _gradual(self, first: int, end: int, margin: int) -> Transition:
        return Transition(max(0, first - margin), min(self._count, end + margin), "gradual")
