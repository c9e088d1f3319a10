"""From shots to clips: ends are trimmed, long shots divided, short shots left out and counted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from curate.shots.base import Timeline, Transition, TransitionKind

SLACK_S = 1e-6
"""Edges within this distance count as equal: sums of floating-point seconds are not exact."""

EdgeKind = TransitionKind | Literal["file", "resize", "divided"]
"""What separates a clip from its neighbor. `file`: the file begins or ends there. `resize`: the size of the frames
changes. `divided`: a long shot is divided there."""


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
class Edge:
    """One end of a clip: what separates it from its neighbor, and how many frames between the two are in no clip."""

    kind: EdgeKind
    num_left_out: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipRange:
    """Half-open range of frame numbers, in shot number `shot` of its file, from 0."""

    first: int
    end: int
    shot: int
    before: Edge
    after: Edge


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipRanges:
    """One range per clip; `num_short` shots gave none."""

    ranges: tuple[ClipRange, ...]
    num_short: int


def divide(
    transitions: Sequence[Transition], resizes: Sequence[int], timeline: Timeline, config: ClipRangeConfig
) -> ClipRanges:
    """Frame ranges of the clips.

    Args:
        transitions: In order, not overlapping. Their frames are in no clip.
        resizes: Frames from which on the size is another: a shot ends there as well.
        timeline: When the frames are shown.
        config: The lengths.
    """
    ranges: list[ClipRange] = []
    num_short = 0
    for number, shot in enumerate(_shots(transitions, resizes, len(timeline.pts))):
        clips = _clips(replace(shot, shot=number), timeline, config)
        num_short += not clips
        ranges += clips
    return ClipRanges(ranges=tuple(ranges), num_short=num_short)


def _shots(transitions: Sequence[Transition], resizes: Sequence[int], num_frames: int) -> list[ClipRange]:
    """The frames between transitions. One at the first or the last frame leaves no shot on its other side."""
    inner: Mapping[int, EdgeKind] = {
        number: "resize" for number in resizes if not any(one.first <= number <= one.end for one in transitions)
    }
    marks: list[tuple[int, int, EdgeKind]] = sorted(
        [*((one.first, one.end, one.kind) for one in transitions), *((n, n, kind) for n, kind in inner.items())]
    )
    ends = [(0, 0, "file"), *marks, (num_frames, num_frames, "file")]
    return [
        ClipRange(
            first=begin[1],
            end=end[0],
            shot=0,
            before=Edge(kind=begin[2], num_left_out=begin[1] - begin[0]),
            after=Edge(kind=end[2], num_left_out=end[1] - end[0]),
        )
        for begin, end in pairwise(ends)
        if begin[1] < end[0]
    ]


def _clips(shot: ClipRange, timeline: Timeline, config: ClipRangeConfig) -> list[ClipRange]:
    edges_s = np.append(timeline.starts_s, timeline.end_s)
    first = int(np.searchsorted(edges_s, edges_s[shot.first] + config.trim_s - SLACK_S))
    end = int(np.searchsorted(edges_s, edges_s[shot.end] - config.trim_s + SLACK_S, side="right")) - 1
    duration_s = edges_s[end] - edges_s[first] if end > first else 0.0
    if end <= first or duration_s < config.min_duration_s - SLACK_S:
        return []
    count = 1
    if config.max_duration_s is not None:
        count = max(1, int(np.ceil(duration_s / config.max_duration_s - SLACK_S)))
    inner_s = edges_s[first] + duration_s * np.arange(1, count) / count
    inner = [int(np.abs(edges_s - moment).argmin()) for moment in inner_s]
    marks = sorted({first, *inner, end})
    divided = Edge(kind="divided")
    before = replace(shot.before, num_left_out=shot.before.num_left_out + first - shot.first)
    after = replace(shot.after, num_left_out=shot.after.num_left_out + shot.end - end)
    return [
        ClipRange(
            first=one,
            end=other,
            shot=shot.shot,
            before=before if one == first else divided,
            after=after if other == end else divided,
        )
        for one, other in pairwise(marks)
    ]
