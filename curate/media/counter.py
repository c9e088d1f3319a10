"""What this process has got through, whatever for. "Nothing was decoded" is counted, not assumed; and of an item that
takes long, whoever runs it sees how far it is."""

from collections.abc import Mapping
from threading import Lock

STILL_S = 1.0
"""What a still picture counts as."""

_lock = Lock()
_counts = {"pictures": 0.0, "frames": 0.0, "seconds": 0.0, "bytes": 0.0}


def count_picture() -> None:
    """To be called for every picture that a decoder gives."""
    _count("pictures", 1)


def count_frame(seconds: float) -> None:
    """To be called for every frame that was asked for, with the time that it is shown: pictures that are decoded on
    the way to it are none."""
    with _lock:
        _counts["frames"] += 1
        _counts["seconds"] += seconds


def count_bytes(num_bytes: int) -> None:
    """To be called for what is read of an input, by whoever reads it from its start to its end."""
    _count("bytes", num_bytes)


def pictures_decoded() -> int:
    """Since the process began."""
    return int(_counts["pictures"])


def counts() -> Mapping[str, float]:
    """Pictures, frames, seconds of video and bytes, since the process began."""
    with _lock:
        return dict(_counts)


def _count(name: str, number: int) -> None:
    with _lock:
        _counts[name] += number
