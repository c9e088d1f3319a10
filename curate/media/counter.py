"""How many pictures this process has decoded, whatever for: "nothing was decoded" is counted, not assumed."""

from threading import Lock

_lock = Lock()
_num_decoded = 0


def count_picture() -> None:
    """To be called for every picture that a decoder gives."""
    global _num_decoded
    with _lock:
        _num_decoded += 1


def pictures_decoded() -> int:
    """Since the process began."""
    return _num_decoded
