"""The clips of an OpenTimelineIO timeline: what `reelpack shots --otio` and editing programs write."""

import json
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from curate.shots.span_times import Moment


def read_clips(text: str) -> Iterator[tuple[str, str, Moment, Moment]]:
    """Where a clip is in the timeline, the URL of its media, and its ends in seconds from the media's first frame.
    Tracks without a picture, gaps and transitions are passed over.

    Raises:
        ValueError: it is no JSON, or a clip has no times.
    """
    try:
        timeline = json.loads(text)
    except ValueError as error:
        raise ValueError(f"is no JSON ({error})") from error
    for number, clip in enumerate(_clips(timeline), 1):
        where = f"clip {number} ({clip.get('name') or 'without a name'})"
        media = clip.get("media_reference") or {}
        media = (clip.get("media_references") or {}).get(clip.get("active_media_reference_key"), media)
        try:
            first, _ = _range(media["available_range"]) if media.get("available_range") else (Fraction(0), None)
            start, duration = _range(clip.get("source_range") or media["available_range"])
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise ValueError(f"{where}: has no source_range with a start_time and a duration ({error!r})") from error
        yield where, media.get("target_url") or "", _moment(start - first), _moment(start - first + duration)


def _clips(item: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(item, dict):
        return
    schema = str(item.get("OTIO_SCHEMA", "")).partition(".")[0]
    if schema == "Clip":
        yield item
    elif schema == "Timeline":
        yield from _clips(item.get("tracks"))
    elif schema != "Track" or item.get("kind", "Video") == "Video":
        for child in item.get("children") or ():
            yield from _clips(child)


def _range(given: dict[str, Any]) -> tuple[Fraction, Fraction]:
    """Start and duration in seconds."""
    times = (given["start_time"], given["duration"])
    start, duration = (Fraction(time["value"]) / Fraction(time["rate"]) for time in times)
    return start, duration


def _moment(seconds: Fraction) -> Moment:
    return Moment(text=f"{float(seconds):.3f} s", unit="seconds", value=seconds)
