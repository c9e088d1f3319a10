"""From shots to clips: shots are joined, ends trimmed, long shots divided, short shots left out and counted."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from curate.shots.base import Timeline, Transition
from curate.shots.shot import Edge, Shot, shots_between
from curate.shots.stitch import StitchConfig, Thumbs, stitched

SLACK_S = 1e-6
"""Edges within this distance count as equal: sums of floating-point seconds are not exact."""


class ClipRangeConfig(BaseModel):
    """How a shot becomes clips. By default every shot is one clip; the policy judges its length."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stitch: StitchConfig | None = Field(default=None, description="join neighboring shots of one event; null: none")
    trim_s: float = Field(default=0.0, ge=0, description="seconds left out at either end of a shot")
    min_duration_s: float = Field(default=0.0, ge=0, description="shorter shots give no clip; they are counted")
    max_duration_s: float | None = Field(
        default=None, gt=0, description="longer shots are divided into clips of at most this length, in seconds"
    )
    divide_at: Literal["equal", "still"] = Field(
        default="equal",
        description="equal: clips of equal length; still: where the picture changes least, clips of "
        "max_duration_s / 2 to max_duration_s",
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
    """One range per clip, with the number of its shot; `num_short` shots gave none."""

    ranges: tuple[Shot, ...]
    num_short: int


def divide(
    transitions: Sequence[Transition],
    resizes: Sequence[int],
    timeline: Timeline,
    thumbs: Thumbs,
    config: ClipRangeConfig,
) -> ClipRanges:
    """Frame ranges of the clips.

    Args:
        transitions: In order, not overlapping. Their frames are in no clip.
        resizes: Frames from which on the size is another: a shot ends there as well.
        timeline: When the frames are shown.
        thumbs: Of the file.
        config: The lengths.
    """
    shots = shots_between(transitions, resizes, len(timeline.pts))
    if config.stitch is not None:
        shots = stitched(shots, thumbs, timeline, config.stitch)
    clips = [_clips(shot, timeline, thumbs, config) for shot in shots]
    return ClipRanges(ranges=tuple(clip for some in clips for clip in some), num_short=clips.count([]))


def _clips(shot: Shot, timeline: Timeline, thumbs: Thumbs, config: ClipRangeConfig) -> list[Shot]:
    edges_s = timeline.edges_s
    first = int(np.searchsorted(edges_s, edges_s[shot.first] + config.trim_s - SLACK_S))
    end = int(np.searchsorted(edges_s, edges_s[shot.end] - config.trim_s + SLACK_S, side="right")) - 1
    duration_s = edges_s[end] - edges_s[first] if end > first else 0.0
    if end <= first or duration_s < config.min_duration_s - SLACK_S:
        return []
    inner: Sequence[int] = ()
    if config.max_duration_s is not None and duration_s > config.max_duration_s + SLACK_S:
        longest_s = config.max_duration_s
        if config.divide_at == "still":
            inner = _still_marks(first, end, edges_s, thumbs, longest_s)
        else:
            inner = _equal_marks(first, end, edges_s, longest_s)
    marks = sorted({first, *inner, end})
    divided = Edge(kind="divided")
    before = replace(shot.before, num_left_out=shot.before.num_left_out + first - shot.first)
    after = replace(shot.after, num_left_out=shot.after.num_left_out + shot.end - end)
    return [
        replace(
            shot,
            first=one,
            end=other,
            before=before if one == first else divided,
            after=after if other == end else divided,
        )
        for one, other in pairwise(marks)
    ]


def _equal_marks(first: int, end: int, edges_s: np.ndarray, longest_s: float) -> list[int]:
    """Where the shot is divided into equal clips."""
    duration_s = edges_s[end] - edges_s[first]
    count = int(np.ceil(duration_s / longest_s - SLACK_S))
    moments_s = edges_s[first] + duration_s * np.arange(1, count) / count
    return [int(np.abs(edges_s - moment).argmin()) for moment in moments_s]


def _still_marks(first: int, end: int, edges_s: np.ndarray, thumbs: Thumbs, longest_s: float) -> list[int]:
    """Where the shot is divided, from its start on: each time at the picture that differs least from the one before,
    among those that leave every clip between half the longest and the longest."""
    change, marks = thumbs.change, list[int]()
    while (rest_s := edges_s[end] - edges_s[first]) > longest_s + SLACK_S:
        earliest_s = longest_s / 2 if rest_s > 2 * longest_s else max(longest_s / 2, rest_s - longest_s)
        latest_s = min(longest_s, rest_s - longest_s / 2)
        low = int(np.searchsorted(edges_s, edges_s[first] + earliest_s - SLACK_S))
        high = int(np.searchsorted(edges_s, edges_s[first] + latest_s + SLACK_S, side="right")) - 1
        near = thumbs.within(low, high + 1)
        if near.start < near.stop:
            first = int(thumbs.numbers[near.start + int(change[near].argmin())])
        else:  # frames are further apart than the pictures, or the clip is
            first = max(first + 1, high)
        if first >= end:
            break
        marks.append(first)
    return marks
