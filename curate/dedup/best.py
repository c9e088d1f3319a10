"""The best of several copies."""

from collections.abc import Iterable, Mapping
from typing import Any


def best(rows: Iterable[Mapping[str, Any]]) -> str:
    """The `clip_id` of the copy to keep: the most content pixels, then bits per second, length, sharpness.

    Args:
        rows: `clip_id, width, height`, and where they are known `letterbox_fraction, bitrate, duration_s, sharpness`.
    """
    return str(max(rows, key=quality)["clip_id"])


def quality(row: Mapping[str, Any]) -> tuple[float, float, float, float, str]:
    """What `best` is the largest of: content pixels, bits per second, length in s, sharpness, id."""
    pixels = row["width"] * row["height"] * (1 - (row.get("letterbox_fraction") or 0.0))
    # The last word has the id, so that the choice does not depend on the order of rows.
    return (
        pixels,
        row.get("bitrate") or 0.0,
        row.get("duration_s") or 0.0,
        row.get("sharpness") or 0.0,
        row["clip_id"],
    )
