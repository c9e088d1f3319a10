"""The best of several copies."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

SIZE_STEP = 1.15
"""Sizes within such a factor count as equal: a content box is known to a few rows of a small frame only."""
KNOWN = ("clip_id", "width", "height", "letterbox_fraction", "bitrate", "duration_s", "sharpness")
"""What `best` reads of a copy."""
ADVANTAGES = ("more picture", "fewer bars", "a higher bitrate", "a longer clip", "a sharper picture")
"""What each part of `quality` says for a copy."""


def best(rows: Iterable[Mapping[str, Any]]) -> str:
    """The `clip_id` of the copy to keep: the most content pixels, no bars, then bits per second, length, sharpness.

    Args:
        rows: `clip_id, width, height`, and where they are known `letterbox_fraction, bitrate, duration_s, sharpness`.
    """
    return str(max(rows, key=quality)["clip_id"])


def quality(row: Mapping[str, Any]) -> tuple[float, float, float, float, float, str]:
    """What `best` is the largest of: a part for each of `ADVANTAGES`, and last the id."""
    bars = row.get("letterbox_fraction") or 0.0
    pixels = row["width"] * row["height"] * max(1 - bars, 1e-6)
    return (
        round(math.log(pixels, SIZE_STEP)),
        -round(bars, 2),
        row.get("bitrate") or 0.0,
        row.get("duration_s") or 0.0,
        row.get("sharpness") or 0.0,
        row["clip_id"],  # the choice does not depend on the order of rows
    )
