"""Clips of a fixed length, with no regard to what they show."""

from fractions import Fraction
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from curate.shots.base import Timeline, Transition
from curate.shots.weightless import Unscored

MAX_DENOMINATOR = 10**6
"""Lengths are exact to the microsecond: the floating-point number next to 0.1 is greater than 0.1."""


class StrideConfig(BaseModel):
    """Clips of a fixed length, one after the other from the first frame. They can contain cuts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["stride"] = "stride"
    length_s: float = Field(default=10.0, gt=0, description="length of a clip, in seconds")
    min_last_s: float = Field(
        default=2.0, ge=0, description="a rest at the end that is shorter is left out; in seconds"
    )

    @model_validator(mode="after")
    def _a_rest_is_shorter_than_a_clip(self) -> "StrideConfig":
        if self.min_last_s > self.length_s:
            raise ValueError(f"min_last_s ({self.min_last_s}) must be at most length_s ({self.length_s})")
        return self

    def build(self) -> "StrideDetector":
        return StrideDetector(self)


class StrideDetector(Unscored):
    """Clip k has the frames whose time from the first one is in [k length, (k + 1) length): boundaries do not drift.
    A file shorter than `length_s` is one clip."""

    def __init__(self, config: StrideConfig) -> None:
        self._config = config

    def transitions(self, scores: np.ndarray, timeline: Timeline) -> list[Transition]:
        ticks = Fraction(self._config.length_s).limit_denominator(MAX_DENOMINATOR) / timeline.time_base
        from_start = timeline.pts - timeline.pts[0]
        # Clip of each frame, floor(ticks from the start / length), in whole numbers.
        clips = from_start.astype(object) * ticks.denominator // ticks.numerator
        first = (np.flatnonzero(np.diff(clips)) + 1).tolist()
        if first and (timeline.end_pts - timeline.pts[first[-1]]) * timeline.time_base < self._config.min_last_s:
            *first, rest = first
            return [*(Transition(n, n, "divided") for n in first), Transition(rest, len(timeline.pts), "gap")]
        return [Transition(n, n, "divided") for n in first]
