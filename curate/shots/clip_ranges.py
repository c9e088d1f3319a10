"""From shots to clips: ends are trimmed, long shots divided, short shots left out and counted."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from curate.shots.base import Transition

SLACK_S = 1e-6
"""Edges within this distance count as equal: sums of floating-point seconds are not exact."""


class ClipRangeConfig(BaseModel):
    """How a shot becomes clips. By default every shot is one clip; the policy judges its length."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    trim_s: float = Field(default=0.0, ge=0, description="seconds left out at either end of a shot")
    min_duration_s: float = Field(default=0.0, ge=0, description="shorter shots give no clip; they are counted")
    max_duration_s: float | None = Field(
        default=None, gt=0, description="longer shots are divided into equal clips of at most this length"
    )

    @model_validator(mode="after")
    def _range_is_not_empty(self) -> "ClipRangeConfig":
        # A shot just over the maximum is halved.
        if self.max_duration_s is not None and self.min_duration_s > self.max_duration_s / 2:
            raise ValueError(
                f"min_duration_s ({self.min_duration_s}) must be at most half of max_duration_s "
                f"({self.max_duration_s}), because a longer shot is divided into equal clips"
            )
        return self


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipRanges:
    """`ranges` are half-open ranges of frame numbers, one per clip; `num_short` shots gave none."""

    ranges: tuple[tuple[int, int], ...]
    num_short: int


def divide(transitions: list[Transition], starts_s: np.ndarray, end_s: float, config: ClipRangeConfig) -> ClipRanges:
    """Frame ranges of the clips.

    Args:
        transitions: In order, not overlapping. Their frames are in no clip.
        starts_s: `(n,)` when each frame is first shown, seconds.
        end_s: When the last one ends.
        config: The lengths.
    """
    edges_s = np.append(starts_s, end_s)
    # A transition at the first or the last frame leaves no shot on its other side.
    begins = [0, *(end for _, end in transitions)]
    ends = [*(first for first, _ in transitions), len(starts_s)]
    shots = [shot for shot in zip(begins, ends, strict=True) if shot[0] < shot[1]]
    ranges: list[tuple[int, int]] = []
    num_short = 0
    for shot_first, shot_end in shots:
        first = int(np.searchsorted(edges_s, edges_s[shot_first] + config.trim_s - SLACK_S))
        end = int(np.searchsorted(edges_s, edges_s[shot_end] - config.trim_s + SLACK_S, side="right")) - 1
        duration_s = edges_s[end] - edges_s[first] if end > first else 0.0
        if end <= first or duration_s < config.min_duration_s - SLACK_S:
            num_short += 1
            continue
        count = 1
        if config.max_duration_s is not None:
            count = max(1, int(np.ceil(duration_s / config.max_duration_s - SLACK_S)))
        inner_s = edges_s[first] + duration_s * np.arange(1, count) / count
        inner = [int(np.abs(edges_s - moment).argmin()) for moment in inner_s]
        marks = sorted({first, *inner, end})
        ranges += pairwise(marks)
    return ClipRanges(ranges=tuple(ranges), num_short=num_short)
