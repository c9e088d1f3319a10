"""Counts of this process's work: decoded frames, seconds of video, bytes read and written. They prove that a step
decodes nothing, and show the progress of long items."""

from collections.abc import Mapping
from threading import Lock, local

STILL_S = 1.0
"""Seconds of video that a still image counts as."""

_lock = Lock()
_counts = {"decoded_frames": 0.0, "frames": 0.0, "seconds": 0.0, "bytes": 0.0, "written_bytes": 0.0}


class _Counts(local):
    def __init__(self) -> None:
        self.counts = dict.fromkeys(_counts, 0.0)


_here = _Counts()


def count_decoded() -> None:
    """To be called for every frame that a decoder returns."""
    _count("decoded_frames", 1)


def count_frame(seconds: float) -> None:
    """To be called for every frame that was asked for, with its duration. Frames that are decoded on the way to it do
    not count."""
    _count("frames", 1)
    _count("seconds", seconds)


def count_bytes(num_bytes: int) -> None:
    """To be called by code that reads an input from its start to its end."""
    _count("bytes", num_bytes)


def count_written(num_bytes: int) -> None:
    """To be called for every file that is published."""
    _count("written_bytes", num_bytes)


def frames_decoded() -> int:
    """Frames that decoders returned since the process began."""
    return int(_counts["decoded_frames"])


def counts() -> Mapping[str, float]:
    """Decoded frames, frames asked for, seconds of video, bytes read and written, since the process began."""
    with _lock:
        return dict(_counts)


def counts_here() -> Mapping[str, float]:
    """The same of this thread, since it began."""
    return dict(_here.counts)


def _count(name: str, number: float) -> None:
    _here.counts[name] += number
    with _lock:
        _counts[name] += number
