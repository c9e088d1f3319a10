"""Values of the pipeline ↔ rows of the tables."""

from collections.abc import Mapping
from dataclasses import asdict
from fractions import Fraction
from functools import cache
from typing import Any

from curate.media.parts import Part
from curate.scan import Identified
from curate.scanned import ScannedClip
from curate.schema import Clip, Failure, Span, Video
from curate.shards.pieces import CutClip
from curate.storage.access import without_secrets


@cache
def fraction(text: str) -> Fraction:
    """A time base or a rate as stored: a dataset has few of them, and many rows of each."""
    return Fraction(text)


def identity_row(
    uri: str, version: str, identified: Identified, part_s: float | None, warm_frames: int
) -> dict[str, Any]:
    """What the bytes at a URI are named, and the parts of about `part_s` that they are scanned in."""
    parts = [asdict(part) for part in identified.parts]
    return {
        "uri": uri,
        "version": version,
        "video_id": identified.video_id,
        "part_s": part_s,
        "parts": parts,
        "declared_s": identified.declared_s,
        "warm_frames": warm_frames,
        "part_warm_frames": [part.pop("warm_frame") for part in parts],
    }


def identified_of(row: Mapping[str, Any]) -> Identified:
    """What `identity_row` stored."""
    # An earlier reelpack stored no numbers of frames, and asked for one frame before a part.
    numbers = row["part_warm_frames"] or [0] * len(row["parts"])
    parts = tuple(Part(**part, warm_frame=number) for part, number in zip(row["parts"], numbers, strict=True))
    return Identified(video_id=row["video_id"], parts=parts, declared_s=row["declared_s"])


def video_row(video: Video, version: str, scan_key: str) -> dict[str, Any]:
    """The `videos` row of a file that was read to its end."""
    return {
        "uri": video.uri,
        "version": version,
        "scan_key": scan_key,
        "outcome": "ok",
        "video_id": video.video_id,
        "size_bytes": video.size_bytes,
        "kind": video.kind,
        "container": video.container,
        "codec": video.codec,
        "pixel_format": video.pixel_format,
        "bit_depth": video.bit_depth,
        "color_transfer": video.color_transfer,
        "color_primaries": video.color_primaries,
        "interlaced": video.interlaced,
        "width": video.width,
        "height": video.height,
        "rotation": video.rotation,
        "mirrored": video.mirrored,
        "sample_aspect_ratio": str(video.sample_aspect_ratio),
        "fps": str(video.fps),
        "time_base": str(video.time_base),
        "num_frames": video.num_frames,
        "duration_s": video.duration_s,
        "has_audio": video.has_audio,
        "video_stream": video.video_stream,
        "num_video_streams": video.num_video_streams,
        "dolby_vision": video.dolby_vision,
        "notes": list(video.notes),
    }


def failed_video_row(failure: Failure, version: str, scan_key: str, size_bytes: int | None) -> dict[str, Any]:
    """The `videos` row of a file that has no clips, with the reason."""
    return {
        "uri": failure.subject,
        "version": version,
        "scan_key": scan_key,
        "outcome": "failed",
        "failure": str(failure.kind),
        "detail": without_secrets(failure.detail),
        "size_bytes": size_bytes,
    }


def clip_row(scanned: ScannedClip, scan_key: str) -> dict[str, Any]:
    clip, place = scanned.clip, scanned.place
    return {
        "clip_id": clip.clip_id,
        "video_id": clip.video_id,
        "scan_key": scan_key,
        "kind": clip.kind,
        "start_pts": clip.span.start_pts,
        "end_pts": clip.span.end_pts,
        "time_base": str(clip.span.time_base),
        "fps": str(clip.fps),
        "width": clip.width,
        "height": clip.height,
        "num_frames": clip.num_frames,
        "shot": place.number,
        "num_shots": place.num_shots,
        "transition_before": place.before.kind,
        "left_out_before": place.before.num_left_out,
        "transition_after": place.after.kind,
        "left_out_after": place.after.num_left_out,
        **scanned.signals,
        "frame_hashes": scanned.frame_hashes,
    }


def clip_of(row: Mapping[str, Any], uri: str) -> Clip:
    """The `Clip` that a row of the clips table describes, to be read from `uri`."""
    span = Span(start_pts=row["start_pts"], end_pts=row["end_pts"], time_base=fraction(row["time_base"]))
    return Clip(
        clip_id=row["clip_id"],
        video_id=row["video_id"],
        video_uri=uri,
        kind=row["kind"],
        span=span,
        fps=fraction(row["fps"]),
        width=row["width"],
        height=row["height"],
        num_frames=row["num_frames"],
    )


def shard_row(clip: CutClip, split: str, cut_key: str) -> dict[str, Any]:
    return {
        "clip_id": clip.clip_id,
        "cut_key": cut_key,
        "split": split,
        "shard": clip.member.shard,
        "ext": clip.member.ext,
        "offset": clip.member.offset,
        "size": clip.member.size,
        "digest": clip.member.digest,
        "num_frames": clip.num_frames,
        "height": clip.height,
        "width": clip.width,
        "fps": clip.fps,
        "duration_s": clip.duration_s,
        "codec": clip.codec,
        "pixel_format": clip.pixel_format,
        "color_transfer": clip.color_transfer,
        "cut_start_pts": clip.start_pts,
        "cut_end_pts": clip.end_pts,
        "audio_codec": clip.audio_codec,
        "audio_channels": clip.audio_channels,
        "audio_rate": clip.audio_rate,
        "audio_s": clip.audio_s,
    }


def failure_row(failure: Failure, key: str, retry_command: str) -> dict[str, Any]:
    return {
        "subject": failure.subject,
        "step": failure.step,
        "key": key,
        "kind": str(failure.kind),
        "detail": without_secrets(failure.detail),
        "attempts": failure.attempts,
        "retryable": failure.retryable,
        "retry_command": retry_command,
    }
