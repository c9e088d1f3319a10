"""Which clips PyAV read instead of the chosen reader."""

from collections.abc import Mapping

from curate.media.readers.config import MediaConfig


def fallback_note(media: MediaConfig, fallbacks: Mapping[str, int]) -> str | None:
    """A sentence with the number of clips of each reason; None where there are no such clips."""
    if not fallbacks:
        return None
    reasons = sorted(fallbacks.items(), key=lambda one: (-one[1], one[0]))
    return f"read by pyav, not by {media.reader}: " + "; ".join(f"{number} × {reason}" for reason, number in reasons)
