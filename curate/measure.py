"""From a file, or a part of one, to numbers: the scores and signals of each frame of one low-resolution pass.

A part is measured to the very numbers that a pass over the whole file gives. Detectors and signals depend on a bounded
past (`curate.shots.base`, `curate.signals.base`): the part's pass begins that much earlier, and takes a fingerprint of
what it saw there. The part before takes one of the same frames, which are its last. Where the two are equal, the later
pass saw what the earlier one did. A detector that looks ahead is given the first frames of the next part as well.
"""

import math
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from curate.dedup.frame_hash import THUMB_PX, TICKS_PER_SECOND, thumbnail
from curate.media.frames import Frame, iter_frames
from curate.media.geometry import Geometry
from curate.media.parts import WHOLE, Part
from curate.schema import FailureKind, MediaError, Video
from curate.shots.base import ShotDetector
from curate.shots.windows import WindowedScores
from curate.signals.base import ScanFrame
from curate.signals.config import SIGNALS


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Measured:
    """The n frames of one part, in numbers.

    Attributes:
        video: The file.
        pts: `(n,)` int64, increasing.
        end_pts: When the last frame ends, which is when the next one begins.
        scores: `(n, num_scores)` float64, of the shot detector.
        numbers: `(n, v)` float64, of all signals side by side.
        shapes: `(frame number, geometry)` of the first frame and wherever the size, orientation or pixel aspect
            ratio of the frames changes.
        thumbs: `(m, P, P)` uint8, of the first frame in each tick of the perceptual hash.
        thumb_frames: `(m,)` int64, the numbers of those frames.
        first_frame: Number of its first frame in the file, by the packets before it.
        num_warm: How many frames were decoded before its first one.
        past: Fingerprint of the `num_warm` frames; 0 where the file begins.
        last: Fingerprint of its frames that are warm-up frames of the next part; 0 for the last part.
    """

    video: Video
    pts: np.ndarray
    end_pts: int
    scores: np.ndarray
    numbers: np.ndarray
    shapes: tuple[tuple[int, Geometry], ...]
    thumbs: np.ndarray
    thumb_frames: np.ndarray
    first_frame: int
    num_warm: int
    past: int
    last: int


def measure(
    video: Video,
    path: str,
    detector: ShotDetector,
    part: Part = WHOLE,
    *,
    short_side_px: int,
    time_limit_s: float | None,
    max_pixels: int,
    is_sparse: bool = False,
) -> Measured:
    """One pass over a probed file or over a part of it, by the clock of `video.time_base`.

    Args:
        video: Result of the probe.
        path: Local file.
        detector: After its `setup`.
        part: Of `plan_parts`.
        short_side_px: Short side of the frames of the pass.
        time_limit_s: Wall-clock seconds.
        max_pixels: Most pixels of one frame.
        is_sparse: Skip frames; their numbers are means of those of the decoded frames around them.

    Raises:
        MediaError: The file does not decode to the part's end, has no frame in it, or takes too long.
        UnreliableTimestampsError: The stream's own times cannot be used.
        NotSkippableError: The file is to be decoded in full.
    """
    tick_s = float(video.time_base)
    windows = WindowedScores(detector, part.warm_frame)
    kept = _Kept()
    past = last = num_warm = 0
    hash_tick: int | None = None
    frames = iter_frames(
        path,
        short_side_px=short_side_px,
        time_base=video.time_base,
        from_pts=part.warm_pts,
        time_limit_s=time_limit_s,
        max_pixels=max_pixels,
        is_sparse=is_sparse,
    )
    for frame, scan_frame, values in _with_numbers(frames, tick_s, part.end_pts):
        if part.end_pts is not None and frame.pts >= part.end_pts:
            if windows.covers(num_warm + len(kept.pts)):
                break
            windows.add(frame.rgb)
            continue
        windows.add(frame.rgb)
        hash_tick, before = math.floor(scan_frame.shown_s * TICKS_PER_SECOND), hash_tick
        if part.start_pts is not None and frame.pts < part.start_pts:
            past = _fingerprint(frame, past)
            num_warm += 1
            continue
        if part.next_warm_pts is not None and frame.pts >= part.next_warm_pts:
            last = _fingerprint(frame, last)
        kept.add(frame, values, thumbnail(scan_frame.luma) if hash_tick != before else None)
    if not kept.pts:
        raise MediaError(FailureKind.NO_FRAMES, f"{path} has a {video.codec} stream without frames")
    scores = windows.finish()[num_warm : num_warm + len(kept.pts)]
    return Measured(
        video=video,
        pts=np.frombuffer(kept.pts, np.int64),
        end_pts=kept.end_pts,
        scores=scores,
        numbers=np.frombuffer(kept.numbers).reshape(len(kept.pts), -1),
        shapes=tuple(kept.shapes),
        thumbs=np.frombuffer(kept.thumbs, np.uint8).reshape(-1, THUMB_PX, THUMB_PX),
        thumb_frames=np.frombuffer(kept.thumb_frames, np.int64),
        first_frame=part.warm_frame + num_warm,
        num_warm=num_warm,
        past=past,
        last=last,
    )


def _with_numbers(
    frames: Iterator[Frame], tick_s: float, end_pts: int | None
) -> Iterator[tuple[Frame, ScanFrame, list[float]]]:
    """Each frame and its numbers; those of a skipped frame lie between the numbers of the decoded frames around it.
    Frames from `end_pts` on have none, except where a skipped frame before them needs theirs."""
    signals = [signal() for signal in SIGNALS]
    before: tuple[int, list[float]] | None = None
    skipped: list[tuple[Frame, ScanFrame]] = []
    for frame in frames:
        scan_frame = ScanFrame(shown_s=frame.pts * tick_s, rgb=frame.rgb, interlaced=frame.interlaced)
        if frame.is_skipped:
            skipped.append((frame, scan_frame))
        elif end_pts is not None and frame.pts >= end_pts and not skipped:
            yield frame, scan_frame, []
        else:
            values = [value for signal in signals for value in signal.measure(scan_frame)]
            earlier_pts, earlier = before or (frame.pts - 1, values)
            for one, small in skipped:
                share = (one.pts - earlier_pts) / (frame.pts - earlier_pts)
                yield one, small, [a + (b - a) * share for a, b in zip(earlier, values, strict=True)]
            yield frame, scan_frame, values
            before, skipped = (frame.pts, values), []
    if before is not None:
        yield from ((frame, scan_frame, before[1]) for frame, scan_frame in skipped)


class _Kept:
    """The frames' numbers so far, packed: a long video has hundreds of thousands of frames."""

    def __init__(self) -> None:
        self.pts, self.end_pts = array("q"), 0
        self.numbers = array("d")
        self.shapes: list[tuple[int, Geometry]] = []
        self.thumbs, self.thumb_frames = bytearray(), array("q")

    def add(self, frame: Frame, values: list[float], thumb: np.ndarray | None) -> None:
        if not self.shapes or self.shapes[-1][1] != frame.shape:
            self.shapes.append((len(self.pts), frame.shape))
        if thumb is not None:
            self.thumbs += thumb.tobytes()
            self.thumb_frames.append(len(self.pts))
        self.pts.append(frame.pts)
        self.end_pts = frame.pts + frame.duration
        self.numbers.extend(values)


def _fingerprint(frame: Frame, before: int) -> int:
    """Checksum of a frame's time and pixels, chained to that of the frames before it."""
    return zlib.crc32(np.ascontiguousarray(frame.rgb).data, zlib.crc32(str(frame.pts).encode(), before))
