"""From the numbers of a pass to a file's clips: shots, signals and hashes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from curate.dedup.frame_hash import hash_frames
from curate.measure import Measured
from curate.media.clock import counted_time_base
from curate.media.geometry import Geometry
from curate.schema import Clip, Span, Video, clip_id
from curate.shots.base import ShotDetector, Timeline
from curate.shots.clip_ranges import ClipRangeConfig, divide
from curate.shots.shot import Shot
from curate.shots.stitch import Thumbs
from curate.signals.config import SIGNALS

SIGNAL_DIGITS = 6

FPS_TOLERANCE = 0.02
"""Tolerated relative difference between the header's rate and the rate of the frames' times, which some containers
round to milliseconds."""

PLAUSIBLE_FPS = (0.1, 1000.0)
"""Rates outside this range come from damaged times."""

MAX_FPS_DENOMINATOR = 1001
"""Largest denominator of a rate that is estimated from frame times: that of NTSC rates."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScannedClip:
    """A clip, where it lies among the shots of its file, and its signals, every one finite; `frame_hashes` are those
    of `curate.dedup.frame_hash`."""

    clip: Clip
    place: Shot
    signals: dict[str, float]
    frame_hashes: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Scanned:
    """A file that was decoded from its first frame to its last."""

    video: Video
    num_decoded_frames: int
    num_short_shots: int
    clips: tuple[ScannedClip, ...]


def clips_of_parts(parts: Sequence[Measured], detector: ShotDetector, lengths: ClipRangeConfig) -> Scanned:
    """The clips of parts that follow one another from a file's first frame to its last."""
    video, timeline = timeline_of(parts)
    times = np.append(timeline.pts, timeline.end_pts)
    numbers = np.concatenate([part.numbers for part in parts])
    starts = np.cumsum([0, *(len(part.pts) for part in parts)]).tolist()
    thumbs = thumbs_of(parts)
    shapes = _shapes(parts, starts)
    edges_s = times * float(video.time_base)
    scores = np.concatenate([part.scores for part in parts])
    pieces = divide(detector.transitions(scores, timeline), resizes_of(parts), timeline, thumbs, lengths)
    clips = []
    for place in pieces.ranges:
        first, end = place.first, place.end
        signals = _summary(numbers[first:end], edges_s[first : end + 1])
        shape = shapes[max(change for change in shapes if change <= first)]
        clips.append(
            ScannedClip(
                clip=_clip(video, times, first, end, shape.display_size),
                place=place,
                signals=signals,
                frame_hashes=_hashes(thumbs.luma[thumbs.within(first, end)], signals),
            )
        )
    return Scanned(
        video=video, num_decoded_frames=len(times) - 1, num_short_shots=pieces.num_short, clips=tuple(clips)
    )


def timeline_of(parts: Sequence[Measured]) -> tuple[Video, Timeline]:
    """The file with its true rate, and when its frames are shown."""
    pts, end_pts = np.concatenate([part.pts for part in parts]), parts[-1].end_pts
    video = _with_true_fps(parts[0].video, np.append(pts, end_pts))
    return video, Timeline(uri=video.uri, pts=pts, end_pts=end_pts, time_base=video.time_base, fps=video.fps)


def thumbs_of(parts: Sequence[Measured]) -> Thumbs:
    starts = np.cumsum([0, *(len(part.pts) for part in parts)]).tolist()
    return Thumbs(
        numbers=np.concatenate([part.thumb_frames + start for part, start in zip(parts, starts, strict=False)]),
        luma=np.concatenate([part.thumbs for part in parts]),
    )


def resizes_of(parts: Sequence[Measured]) -> list[int]:
    """Numbers of the frames from which on the size is another."""
    starts = np.cumsum([0, *(len(part.pts) for part in parts)]).tolist()
    return [number for number in _shapes(parts, starts) if number > 0]


def _with_true_fps(video: Video, times: np.ndarray) -> Video:
    """The header's rate, or the rate of the frames' times where that is plausible and differs."""
    num_frames = len(times) - 1
    if num_frames < 2 or video.time_base == counted_time_base(video.fps):
        return video
    fps = num_frames / (int(times[-1] - times[0]) * video.time_base)
    if abs(fps / video.fps - 1) <= FPS_TOLERANCE or not PLAUSIBLE_FPS[0] <= fps <= PLAUSIBLE_FPS[1]:
        return video
    return replace(video, fps=fps.limit_denominator(MAX_FPS_DENOMINATOR))


def _shapes(parts: Sequence[Measured], starts: Sequence[int]) -> dict[int, Geometry]:
    """Frame number → shape, for the first frame and each frame whose shape differs from its predecessor's."""
    shapes: dict[int, Geometry] = {}
    last: Geometry | None = None
    for part, start in zip(parts, starts, strict=False):
        for number, shape in part.shapes:
            if shape != last:
                shapes[start + number] = last = shape
    return shapes


def _clip(video: Video, times: np.ndarray, first: int, end: int, size: tuple[int, int]) -> Clip:
    span = Span(start_pts=int(times[first]), end_pts=int(times[end]), time_base=video.time_base)
    return Clip(
        clip_id=clip_id(video.video_id, span),
        video_id=video.video_id,
        video_uri=video.uri,
        kind=video.kind,
        span=span,
        fps=video.fps,
        width=size[0],
        height=size[1],
        num_frames=end - first,
    )


def _summary(numbers: np.ndarray, edges_s: np.ndarray) -> dict[str, float]:
    summary: dict[str, float] = {}
    column = 0
    for signal in SIGNALS:
        values = numbers[:, column : column + signal.num_values]
        column += signal.num_values
        summary |= signal.summarize(values, edges_s[:-1], float(edges_s[-1]))
    return {name: round(float(value), SIGNAL_DIGITS) for name, value in summary.items()}


def _hashes(thumbs: np.ndarray, signals: dict[str, float]) -> bytes:
    """Perceptual hashes of the clip's frames without their bars; none for a clip within one tick of the hash."""
    if not len(thumbs):
        return b""
    return hash_frames(thumbs, (signals["box_top"], signals["box_left"], signals["box_bottom"], signals["box_right"]))
