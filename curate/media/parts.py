"""Where a long file may be divided, so that its parts can be decoded apart: found from its packets, without decoding.

A part begins at the start of a whole second of the stream's clock, and is decoded from the second before it: that is
the past that detectors and signals may need (`curate.signals.base`). That second follows a key frame, so a part
costs at most two seconds and the way to the next key frame more than its own frames.
"""

from array import array
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from curate.media.container import check_file, is_still_image, read_head
from curate.media.stream import SEEKABLE_CONTAINERS, VideoReader
from curate.schema import MediaError

SPLITTABLE_CONTAINERS = SEEKABLE_CONTAINERS - {"avi"}
"""Not AVI: whether its end is missing is known only after a pass from its start."""

MIN_LAST_PART = 0.5
"""A rest shorter than this share of a part belongs to the part before it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A stretch of a file: its frames with `start_pts <= pts < end_pts`, in the stream's time base.

    Decoding begins with the frame at `warm_pts`; those from `next_warm_pts` on are what the next part begins with.
    None stands for the file's first frame and for its end.
    """

    warm_pts: int | None = None
    start_pts: int | None = None
    next_warm_pts: int | None = None
    end_pts: int | None = None


WHOLE = Part()


def plan_parts(path: str, part_s: float | None) -> tuple[Part, ...]:
    """Parts of about `part_s` seconds that follow one another from the file's first frame to its end.

    `(WHOLE,)` for a file that is short, that cannot be sought in, whose times are missing, jump back or occur
    twice, or that cannot be read: what is wrong with it is for the pass to say.

    Args:
        path: Local file.
        part_s: Seconds of video per part; None: no file is divided.
    """
    if part_s is None:
        return (WHOLE,)
    try:
        check_file(path)
        if is_still_image(read_head(path)):
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
    return _parts(shown, keys, tick_s, part_s)


def declared_s(path: str) -> float | None:
    """Seconds of video that a file's header declares; None where it declares nothing, or cannot be read."""
    try:
        check_file(path)
        if is_still_image(read_head(path)):
            return None
        with VideoReader(path) as reader:
            return reader.duration_s
    except (MediaError, OSError):
        return None


def _parts(pts: np.ndarray, key_pts: np.ndarray, tick_s: float, part_s: float) -> tuple[Part, ...]:
    """Parts of a stream whose frames and key frames have these pts, both increasing."""
    shown_s = pts * tick_s
    begins = pts[1:][np.diff(np.floor(shown_s)) > 0]  # the first frame of each whole second, but for the file's first
    marks: list[tuple[int | None, int | None]] = [(None, None)]
    next_s = shown_s[0] + part_s
    while next_s < shown_s[-1] - part_s * MIN_LAST_PART:
        key = np.searchsorted(key_pts, next_s / tick_s)
        if key == len(key_pts):
            break
        warm = np.searchsorted(begins, key_pts[key])
        if warm + 1 >= len(begins):
            break
        marks.append((int(begins[warm]), int(begins[warm + 1])))
        next_s = begins[warm + 1] * tick_s + part_s
    return tuple(
        Part(warm_pts=warm, start_pts=start, next_warm_pts=next_warm, end_pts=end)
        for (warm, start), (next_warm, end) in pairwise([*marks, (None, None)])
    )
