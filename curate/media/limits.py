"""Bounds on what a file may ask of a process: pixels of one picture, seconds of one read. Every reader has them."""

from curate.schema import FailureKind, MediaError

DEFAULT_MAX_PIXELS = 200_000_000
"""Of one picture, by default of `scan.max_pixels`. The largest sensors of telephones give as many."""

CEILING_PIXELS = 2**29
"""The highest that the setting may be, and what later steps take: a clip has passed the scan's limit."""

READ_LIMIT_S = 3600.0
"""Wall clock for one clip, one probe, one set of sampled frames."""


def check_size(name: str, width: int, height: int, max_pixels: int) -> None:
    """Raises MediaError (TOO_LARGE) for a picture of more pixels."""
    if width * height > max_pixels:
        detail = f"{name} has pictures of {width}x{height}, more than {max_pixels} pixels; see scan.max_pixels"
        raise MediaError(FailureKind.TOO_LARGE, detail)
