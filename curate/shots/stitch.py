"""Shots of one event, joined: what a detector took apart without need, or a scene that goes on after a cut.

The stitching of Panda-70M (Chen et al. 2024, arXiv 2402.19479, §3.1) joins neighbors whose frames at the cut have
similar features. Departure: the frames are compared as the scan's thumbnails, by correlation of their luma, so no
model runs; this joins the same view, and not the same place from another side.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from curate.shots.base import Timeline
from curate.shots.shot import Shot


class StitchConfig(BaseModel):
    """Which neighboring shots are joined. The joined clip contains the cut."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_similarity: float = Field(
        default=0.9, gt=0, le=1, description="least correlation of the luma on either side of the cut"
    )
    max_duration_s: float = Field(default=60.0, gt=0, description="joined shots are at most this long, in seconds")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Thumbs:
    """Small pictures of some frames of a file.

    Attributes:
        numbers: `(m,)` int64, increasing: the frames' numbers.
        luma: `(m, P, P)` uint8.
    """

    numbers: np.ndarray
    luma: np.ndarray

    def within(self, first: int, end: int) -> slice:
        """Those of the frames `first <= number < end`."""
        return slice(*np.searchsorted(self.numbers, (first, end)).tolist())

    @property
    def change(self) -> np.ndarray:
        """`(m,)` float64: mean absolute difference of each from the one before, 0-255; 0 for the first."""
        steps = np.abs(np.diff(self.luma.astype(np.int16), axis=0)).mean(axis=(1, 2))
        return np.concatenate([np.zeros(min(1, len(self.luma))), steps])


def stitched(shots: Sequence[Shot], thumbs: Thumbs, timeline: Timeline, config: StitchConfig) -> list[Shot]:
    """The shots, in order, with neighbors joined. Only a hard cut can lie in a joined shot."""
    joined: list[Shot] = []
    edges_s = timeline.edges_s
    for shot in shots:
        last = joined[-1] if joined else None
        if (
            last is not None
            and last.end == shot.first
            and last.after.kind == "cut"
            and edges_s[shot.end] - edges_s[last.first] <= config.max_duration_s
            and _similarity(thumbs, last, shot) >= config.min_similarity
        ):
            joined[-1] = replace(last, end=shot.end, after=shot.after, num_shots=last.num_shots + shot.num_shots)
        else:
            joined.append(shot)
    return joined


def _similarity(thumbs: Thumbs, one: Shot, other: Shot) -> float:
    """Correlation of a shot's last picture with the first one of the next; 0 where there is none, or no texture."""
    before, after = thumbs.luma[thumbs.within(one.first, one.end)], thumbs.luma[thumbs.within(other.first, other.end)]
    if not len(before) or not len(after):
        return 0.0
    a, b = (picture.astype(np.float64) - picture.mean() for picture in (before[-1], after[0]))
    size = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / size) if size > 0 else 0.0
