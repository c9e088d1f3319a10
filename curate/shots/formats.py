"""Lists of shots for other tools: CSV, EDL (CMX 3600), OpenTimelineIO, JSON.

A shot is a clip of `curate.shots.clip_ranges`: the frames of transitions are in none.
"""

import csv
import io
import json
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any

from curate.shot_list import ShotList
from curate.shots.shot import Shot

COLUMNS = (
    "uri", "shot", "start_s", "end_s", "first_frame", "end_frame", "start_pts", "end_pts", "time_base",
    "transition_before", "left_out_before", "transition_after", "left_out_after",
)  # fmt: skip


def rows(found: ShotList) -> list[dict[str, Any]]:
    """One row per clip. Ends are exclusive: `end_s` and `end_frame` are where the next frame begins."""
    edges = [*found.timeline.pts.tolist(), found.timeline.end_pts]
    base = found.timeline.time_base
    return [
        dict(
            zip(
                COLUMNS,
                (
                    found.video.uri,
                    clip.number,
                    round(float(edges[clip.first] * base), 6),
                    round(float(edges[clip.end] * base), 6),
                    clip.first,
                    clip.end,
                    edges[clip.first],
                    edges[clip.end],
                    str(base),
                    clip.before.kind,
                    clip.before.num_left_out,
                    clip.after.kind,
                    clip.after.num_left_out,
                ),
                strict=True,
            )
        )
        for clip in found.clips
    ]


def as_csv(found: ShotList) -> str:
    """A line per clip. The detector `spans` reads it."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows(found))
    return text.getvalue()


def as_json(found: ShotList) -> str:
    """The file, its clips, and its transitions."""
    video = found.video
    return json.dumps(
        {
            "uri": video.uri,
            "video_id": video.video_id,
            "num_frames": len(found.timeline.pts),
            "fps": str(video.fps),
            "width": video.width,
            "height": video.height,
            "clips": [{key: value for key, value in row.items() if key != "uri"} for row in rows(found)],
            "transitions": [one._asdict() for one in found.transitions],
        },
        indent=2,
    )


def as_edl(found: ShotList) -> str:
    """CMX 3600 with non-drop time codes of the nearest whole rate, counted from the start of the file."""
    rate = max(1, round(found.video.fps))
    lines = [f"TITLE: {_name(found)}", "FCM: NON-DROP FRAME", ""]
    for number, clip in enumerate(found.clips, 1):
        source = f"{_time_code(_ticks(found, clip.first), rate)} {_time_code(_ticks(found, clip.end), rate)}"
        lines += [f"{number:03d}  AX       V     C        {source} {source}", f"* FROM CLIP NAME: {_name(found)}"]
    return "\n".join(lines) + "\n"


def as_otio(found: ShotList) -> str:
    """An OpenTimelineIO timeline of one track; gaps stand for the frames that are in no clip."""
    rate = float(found.video.fps)
    children, reached = list[dict[str, Any]](), 0
    for clip in found.clips:
        if clip.first > reached:
            children.append({"OTIO_SCHEMA": "Gap.1", "source_range": _range(found, reached, clip.first, rate)})
        children.append(_otio_clip(found, clip, rate))
        reached = clip.end
    track = {"OTIO_SCHEMA": "Track.1", "kind": "Video", "name": "shots", "children": children}
    stack = {"OTIO_SCHEMA": "Stack.1", "name": "tracks", "children": [track]}
    return json.dumps({"OTIO_SCHEMA": "Timeline.1", "name": _name(found), "tracks": stack}, indent=2)


FORMATS: Mapping[str, Callable[[ShotList], str]] = {"csv": as_csv, "edl": as_edl, "otio": as_otio, "json": as_json}


def _otio_clip(found: ShotList, clip: Shot, rate: float) -> dict[str, Any]:
    media = {
        "OTIO_SCHEMA": "ExternalReference.1",
        "target_url": found.video.uri,
        "available_range": _range(found, 0, len(found.timeline.pts), rate),
    }
    return {
        "OTIO_SCHEMA": "Clip.2",
        "name": f"shot {clip.number}",
        "source_range": _range(found, clip.first, clip.end, rate),
        "active_media_reference_key": "DEFAULT_MEDIA",
        "media_references": {"DEFAULT_MEDIA": media},
        "metadata": {"reelpack": {"before": clip.before.kind, "after": clip.after.kind}},
    }


def _range(found: ShotList, first: int, end: int, rate: float) -> dict[str, Any]:
    start, stop = float(_ticks(found, first)), float(_ticks(found, end))
    return {
        "OTIO_SCHEMA": "TimeRange.1",
        "start_time": {"OTIO_SCHEMA": "RationalTime.1", "rate": rate, "value": start},
        "duration": {"OTIO_SCHEMA": "RationalTime.1", "rate": rate, "value": stop - start},
    }


def _ticks(found: ShotList, number: int) -> Fraction:
    """When a frame begins, in frames of the average rate from the first one: at a constant rate, its number."""
    timeline = found.timeline
    pts = timeline.end_pts if number == len(timeline.pts) else int(timeline.pts[number])
    return (pts - int(timeline.pts[0])) * timeline.time_base * found.video.fps


def _time_code(ticks: Fraction, rate: int) -> str:
    seconds, frame = divmod(round(ticks), rate)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}:{frame:02d}"


def _name(found: ShotList) -> str:
    return PurePosixPath(found.video.uri).name
