"""Where a long file can be divided into parts that are decoded independently: found from its packets, undecoded.

A part begins at the start of a whole second of the stream's clock, and is decoded from an earlier second on: from the
one before for the past that signals need (`curate.signals.base`), further back where the shot detector needs more
frames. That second follows a key frame, so for most detectors a part costs at most two seconds, and the way to the
next key frame, more than its own frames.
"""

from array import array
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from curate.media.container import check_file, is_still
from curate.media.stream import SEEKABLE_CONTAINERS, VideoReader
from curate.schema import MediaError

SPLITTABLE_CONTAINERS = SEEKABLE_CONTAINERS - {"avi"}
"""Not AVI: whether its end is missing is known only after a pass from its start."""

MIN_LAST_PART = 0.5
"""A rest shorter than this share of a part belongs to the part before it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A stretch of a file: its frames with `start_pts <= pts < end_pts`, in the stream's time base.

    Decoding begins with the frame at `warm_pts`, number `warm_frame` of the file by its packets; the frames from
    `next_warm_pts` on are those that the next part begins with. None stands for the file's first frame and its end.
    """

    warm_pts: int | None = None
    start_pts: int | None = None
    next_warm_pts: int | None = None
    end_pts: int | None = None
    warm_frame: int = 0


WHOLE = Part()


def plan_parts(path: str, part_s: float | None, warm_frames: int = 1) -> tuple[Part, ...]:
    """Parts of about `part_s` seconds that follow one another from the file's first frame to its end.

    `(WHOLE,)` for a file that is short, that cannot be sought in, whose times are missing, jump back or occur
    twice, or that cannot be read: the pass then reports the fault.

    Args:
        path: Local file.
        part_s: Seconds of video per part; None: no file is divided.
        warm_frames: Least frames that a part is decoded from before its own.
    """
    if part_s is None:
        return (WHOLE,)
    try:
        check_file(path)
        if is_still(path):
            return (WHOLE,)
        with VideoReader(path) as reader:
            is_short = reader.duration_s is not None and reader.duration_s < part_s * (1 + MIN_LAST_PART)
            if is_short or reader.container_name not in SPLITTABLE_CONTAINERS:
                return (WHOLE,)
            pts, key_pts = array("q"), array("q")
            for packet in reader.shown_packets():
                assert packet.pts is not None
                pts.append(packet.pts)
                if packet.is_keyframe:
                    key_pts.append(packet.pts)
            tick_s = float(reader.stream_time_base)
    except (MediaError, OSError):
        return (WHOLE,)
    shown, keys = np.unique(np.array(pts, np.int64)), np.array(key_pts, np.int64)
    if not pts or len(shown) < len(pts) or (np.diff(keys) <= 0).any():
        return (WHOLE,)
    return _parts(shown, keys, tick_s, part_s, warm_frames)


def declared_s(path: str) -> float | None:
    """Seconds of video that a file's header declares; None where it declares nothing, or cannot be read."""
    try:
        check_file(path)
        if is_still(path):
            return None
        with VideoReader(path) as reader:
            return reader.duration_s
    except (MediaError, OSError):
        return None


def _parts(pts: np.ndarray, key_pts: np.ndarray, tick_s: float, part_s: float, warm_frames: int) -> tuple[Part, ...]:
    """Parts of a stream whose frames and key frames have these pts, both increasing."""
    shown_s = pts * tick_s
    begins = pts[1:][np.diff(np.floor(shown_s)) > 0]  # the first frame of each whole second, without that of the file
    numbers = np.searchsorted(pts, begins)
    marks: list[tuple[int | None, int | None, int]] = [(None, None, 0)]
    next_s = shown_s[0] + part_s
    while next_s < shown_s[-1] - part_s * MIN_LAST_PART:
        key = np.searchsorted(key_pts, next_s / tick_s)
        if key == len(key_pts):
            break
        warm = np.searchsorted(begins, key_pts[key])
        if warm == len(begins):
            break
        start = max(warm + 1, np.searchsorted(numbers, numbers[warm] + warm_frames))
        if start >= len(begins):
            break
        marks.append((int(begins[warm]), int(begins[start]), int(numbers[warm])))
        next_s = begins[start] * tick_s + part_s
    return tuple(
        Part(warm_pts=warm, start_pts=start, next_warm_pts=next_warm, end_pts=end, warm_frame=warm_frame)
        for (warm, start, warm_frame), (next_warm, end, _) in pairwise([*marks, (None, None, 0)])
    )
