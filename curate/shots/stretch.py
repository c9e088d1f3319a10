"""A stretch of a file that is an input of its own, such as a row of a list: one shot, and nothing else is read."""

from functools import lru_cache

import numpy as np

from curate.media.clock import counted_time_base
from curate.media.decode import clip_times
from curate.media.parts import Part
from curate.schema import FailureKind, MediaError, Video, content_digest
from curate.shots.base import Timeline, Transition
from curate.shots.span_times import Moment, frame_at, read_frame, read_moment, read_seconds
from curate.shots.weightless import Unscored
from curate.storage.inside import Ends, split_stretch

NUM_TIMELINES = 4
"""Files whose packets are remembered: the stretches of a file follow one another."""


class StretchDetector(Unscored):
    """The detector of every stretch, under all settings."""

    def digest(self, uri: str) -> str:
        stretch = split_stretch(uri)
        assert stretch is not None
        return content_digest("stretch", *stretch[1])

    def transitions(self, scores: np.ndarray, timeline: Timeline) -> list[Transition]:
        return [Transition(number, number, "gap") for number in (0, len(timeline.pts))]


def read_ends(ends: Ends) -> tuple[Moment, Moment]:
    """The ends of a stretch.

    Raises:
        ValueError: one cannot be read, or the end is not after the start.
    """
    unit, *texts = ends
    start, end = (
        read_frame(text) if unit == "f" else read_seconds(text, "clock") if unit == "s" else read_moment(text)
        for text in texts
    )
    if start.unit == end.unit and end.order <= start.order:
        raise ValueError(f"ends at {end.text}, expected an end after the start at {start.text}")
    return start, end


def seconds_of(ends: Ends) -> float | None:
    """How long a stretch is; None where that depends on the rate of the file."""
    start, end = read_ends(ends)
    return float(end.value - start.value) if {start.unit, end.unit} <= {"seconds", "clock"} else None


def part_of(video: Video, path: str, version: str | None, ends: Ends) -> Part:
    """The frames of a stretch, as a part of its file.

    Args:
        video: What the probe said.
        path: Local file.
        version: Of its bytes.
        ends: Of the stretch.

    Raises:
        MediaError: SPANS, it does not fit the file; CORRUPT, the file's packets have no times.
    """
    if video.kind == "image":
        raise MediaError(FailureKind.SPANS, f"{path} is an image, which has no stretch of time")
    pts, end_pts = _packets(path, version)
    if video.time_base == counted_time_base(video.fps):
        pts, end_pts = np.arange(len(pts)) * 1000, len(pts) * 1000
    timeline = Timeline(uri=video.uri, pts=pts, end_pts=end_pts, time_base=video.time_base, fps=video.fps)
    try:
        start, end = read_ends(ends)
        first, last = frame_at(start, timeline), frame_at(end, timeline)
    except ValueError as error:
        raise MediaError(FailureKind.SPANS, str(error)) from error
    if first >= last:
        raise MediaError(FailureKind.SPANS, f"{start.text} to {end.text} holds no frame")
    begin = int(pts[first])
    return Part(warm_pts=begin, start_pts=begin, end_pts=int(pts[last]) if last < len(pts) else None, warm_frame=first)


@lru_cache(maxsize=NUM_TIMELINES)
def _packets(path: str, version: str | None) -> tuple[np.ndarray, int]:
    times = clip_times(path)
    return times.pts, times.end_pts
