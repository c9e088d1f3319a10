"""The values that every step shares: video, span, clip, and how an item ends.

Time is exact: a span is a pair of integers in the stream's time base; seconds are derived for people.
Identity is content: the same bytes give the same `video_id`, the same span of them the same `clip_id`, on any
machine. Nothing vanishes: work on an item gives its value or a typed `Failure`.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Literal

SCHEMA_VERSION = 1
"""Raised when the meaning of a stored column changes; written to every table and checked on reading."""

ID_HEX_DIGITS = 32


class FailureKind(StrEnum):
    """Why an item has no result. The kind decides what can be done about it (`RETRYABLE`)."""

    MISSING = "missing"
    PERMISSION = "permission"
    EMPTY_FILE = "empty_file"
    NOT_MEDIA = "not_media"
    NO_VIDEO_STREAM = "no_video_stream"
    UNKNOWN_CODEC = "unknown_codec"
    NO_FRAMES = "no_frames"
    TRUNCATED = "truncated"
    CORRUPT = "corrupt"
    TOO_LARGE = "too_large"
    CHANGED = "changed"
    MISMATCH = "mismatch"
    TIMEOUT = "timeout"
    IO = "io"
    MODEL = "model"
    REFUSED = "refused"
    REJECTED = "rejected"
    WORKER_DIED = "worker_died"
    SPANS = "spans"
    DUPLICATE = "duplicate"


RETRYABLE = frozenset(
    {
        FailureKind.MISSING,
        FailureKind.PERMISSION,
        FailureKind.CHANGED,
        FailureKind.TOO_LARGE,
        FailureKind.TIMEOUT,
        FailureKind.IO,
    }
)
"""Kinds that may end differently when tried again, with other limits perhaps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """One item that a step could not process: `subject` is a URI or an id, `step` the step's name."""

    subject: str
    step: str
    kind: FailureKind
    detail: str
    attempts: int = 1

    @property
    def retryable(self) -> bool:
        return self.kind in RETRYABLE


def said_of(subject: str, detail: str) -> str:
    """The detail of a failure for a line that names its subject: does not name it again."""
    if not subject:
        return detail
    return detail.replace(f": {subject!r}", "").removeprefix(f"{subject}: ").replace(subject, "it")


class MediaError(Exception):
    """A file that cannot be read as video, with the kind of its outcome. Raised by `curate.media` only."""

    def __init__(self, kind: FailureKind, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail

    def __reduce__(self) -> tuple[type, tuple[FailureKind, str]]:
        return (MediaError, (self.kind, self.detail))

    def failure(self, subject: str, step: str) -> Failure:
        return Failure(subject=subject, step=step, kind=self.kind, detail=self.detail)


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """Half-open interval `[start_pts, end_pts)` of presentation times in units of `time_base` seconds."""

    start_pts: int
    end_pts: int
    time_base: Fraction

    @property
    def start_s(self) -> float:
        return float(self.start_pts * self.time_base)

    @property
    def end_s(self) -> float:
        return float(self.end_pts * self.time_base)

    @property
    def duration_s(self) -> float:
        return float((self.end_pts - self.start_pts) * self.time_base)


@dataclass(frozen=True, kw_only=True, slots=True)
class Video:
    """Metadata of one input file, from its probe.

    `width` and `height` are in pixels as displayed: after rotation, before correction of `sample_aspect_ratio`.
    `num_frames` and `duration_s` are what the container declares, or None; a pass over the frames counts them.
    `color_transfer` and `color_primaries` are the tags of the first frame by FFmpeg's names, "" where there is none:
    "smpte2084" (PQ) and "arib-std-b67" (HLG) are HDR. `interlaced` is the flag of the first frame. A player
    exchanges left and right where `mirrored`, then turns by `rotation`. `video_stream` is which of the file's
    `num_video_streams` is used, from 0. `dolby_vision` is the profile of its configuration record, None without.
    `notes` holds what no column tells.
    """

    video_id: str
    uri: str
    size_bytes: int
    kind: Literal["video", "image"]
    container: str
    codec: str
    width: int
    height: int
    fps: Fraction
    time_base: Fraction
    rotation: int = 0
    mirrored: bool = False
    sample_aspect_ratio: Fraction = Fraction(1)
    pixel_format: str = ""
    bit_depth: int = 8
    color_transfer: str = ""
    color_primaries: str = ""
    interlaced: bool = False
    num_frames: int | None = None
    duration_s: float | None = None
    has_audio: bool = False
    video_stream: int = 0
    num_video_streams: int = 1
    dolby_vision: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """One shot, or one still image (`num_frames` 1): an exact span of one video.

    `video_version` is what the bytes at `video_uri` had when they were scanned, None where it is not known.
    """

    clip_id: str
    video_id: str
    video_uri: str
    kind: Literal["video", "image"]
    span: Span
    fps: Fraction
    width: int
    height: int
    num_frames: int
    video_version: str | None = None


def content_digest(*parts: str) -> str:
    """Hex digest that names a value: the first 128 bits of SHA-256 over the parts, separated."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:ID_HEX_DIGITS]


def clip_id(video_id: str, span: Span) -> str:
    """Name of a span of a video's content; equal on any machine for equal bytes."""
    return content_digest("clip", video_id, str(span.start_pts), str(span.end_pts), str(span.time_base))
