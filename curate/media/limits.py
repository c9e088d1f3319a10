"""Limits that every reader applies to a file: pixels of one frame, seconds of one read."""

from curate.schema import FailureKind, MediaError

DEFAULT_MAX_PIXELS = 200_000_000
"""Most pixels of one frame, the default of `scan.max_pixels`: those of the largest sensors of phones."""

CEILING_PIXELS = 2**29
"""The largest value of the setting, and the limit of later steps, whose clips have passed the scan."""

READ_LIMIT_S = 3600.0
"""Wall clock for one clip, one probe, one set of sampled frames."""


def check_size(name: str, width: int, height: int, max_pixels: int) -> None:
    """Raises MediaError (TOO_LARGE) for a frame or image of more pixels."""
    if width * height > max_pixels:
        detail = f"{name} has frames of {width}x{height}, more than {max_pixels} pixels; see scan.max_pixels"
        raise MediaError(FailureKind.TOO_LARGE, detail)
