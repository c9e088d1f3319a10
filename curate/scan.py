"""Stage: a file → its video row and its clips, with every cheap signal, from one low-resolution decode.

A long file can be measured in parts, in any order; `assemble` turns their numbers into the result of one pass over the
whole file, bit for bit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from curate.measure import Measured, measure
from curate.media.clock import UnreliableTimestampsError, counted_time_base
from curate.media.limits import CEILING_PIXELS, DEFAULT_MAX_PIXELS
from curate.media.parts import WHOLE, Part, declared_s, plan_parts
from curate.media.probe import content_id, probe
from curate.media.skipping import NotSkippableError
from curate.scanned import Scanned, clips_of_parts
from curate.schema import Failure, FailureKind, MediaError, Video, content_digest
from curate.shots.base import ShotDetector
from curate.shots.cascade import CascadeConfig
from curate.shots.clip_ranges import ClipRangeConfig
from curate.shots.config import ShotDetectorConfig
from curate.shots.sources import Detectors, SourceConfig
from curate.shots.stretch import part_of, seconds_of
from curate.storage.inside import Ends, split_stretch

SCAN_VERSION = 7
"""Raised when the same configuration gives other clips or signals."""

NOT_KEYED: Mapping[str, bool | set[str]] = {
    **dict.fromkeys(("sources", "part_s", "time_limit_s", "max_pixels"), True),
    "detector": {"device", "path"},
}
"""Settings that change no result. What is in the file at a detector's `path` is in the detector's digest."""

STEP = "scan"


class ScanConfig(BaseModel):
    """Shots and cheap signals."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    short_side_px: int = Field(default=144, ge=32, description="short side of the frames of the pass, in pixels")
    decode: Literal["full", "fast"] = Field(
        default="full",
        description="fast: no loop filter; frames that no other one refers to are skipped where packets are small",
    )
    detector: ShotDetectorConfig = Field(default=CascadeConfig(), description="what finds the cuts")
    sources: tuple[SourceConfig, ...] = Field(
        default=(),
        description="detectors for some of the files: the first that matches a file; else scan.detector",
    )
    pieces: ClipRangeConfig = Field(default=ClipRangeConfig(), description="how shots become clips")
    max_pixels: int = Field(
        default=DEFAULT_MAX_PIXELS, ge=1, le=CEILING_PIXELS, description="files with larger frames are refused"
    )
    part_s: float | None = Field(
        default=120.0, ge=10, description="seconds of video that one worker scans of a long file; null for all of it"
    )
    time_limit_s: float | None = Field(
        default=4 * 3600.0, gt=0, description="seconds of wall clock for one file or part of it; null for no limit"
    )

    @property
    def detectors(self) -> Detectors:
        return Detectors(self.detector, self.sources)


class ScanKeys:
    """Digests of all settings that change a file's result: equal keys and equal bytes give equal clips and signals.

    The detectors are built once. `scan.sources` adds nothing to the key of a file that none of them matches.
    """

    def __init__(self, config: ScanConfig) -> None:
        self._config, self._detectors = config, config.detectors
        self._keys: dict[tuple[ShotDetector, str], str] = {}

    def of(self, uri: str) -> str:
        detector = self._detectors.of(uri)
        digest = detector.digest(uri)
        if (detector, digest) not in self._keys:
            config = self._config.model_copy(update={"detector": self._detectors.config_of(uri)})
            how = config.model_dump_json(exclude=NOT_KEYED)
            key = content_digest("scan", str(SCAN_VERSION), how, *([digest] if digest else []))
            self._keys[detector, digest] = key
        return self._keys[detector, digest]


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFile:
    """One input: a file, or a stretch of one.

    Attributes:
        uri: The user's name for it.
        path: Its bytes on this machine.
        version: Version of the bytes when they were listed; None accepts any.
        video_id: Content id by `IdentifyStage`; None before it has run.
        part: What to scan of it.
    """

    uri: str
    path: str
    size_bytes: int
    version: str | None = None
    video_id: str | None = None
    part: Part = WHOLE


@dataclass(frozen=True, kw_only=True, slots=True)
class Identified:
    """A file's content id, the parts that it is scanned in (`(WHOLE,)` for most), and the seconds of video that its
    header declares."""

    video_id: str
    parts: tuple[Part, ...]
    declared_s: float | None = None


class IdentifyStage:
    """`SourceFile` → `Identified`. Runs before the scan: equal bytes at two URIs are then scanned once."""

    step = "identify"

    def __init__(self, config: ScanConfig) -> None:
        self._config, self._detectors = config, config.detectors

    def setup(self) -> None:
        """Needs no weights."""

    def process(self, items: Sequence[SourceFile]) -> list[Identified | Failure]:
        return [self._identify(item) for item in items]

    def give_up(self, item: SourceFile, kind: FailureKind, detail: str, attempts: int) -> Failure:
        return Failure(subject=item.uri, step=STEP, kind=kind, detail=detail, attempts=attempts)

    def _identify(self, item: SourceFile) -> Identified | Failure:
        stretch = split_stretch(item.uri)
        try:
            if stretch is not None:
                video_id = _content_id(item.path, item.version)
                return Identified(video_id=video_id, parts=(WHOLE,), declared_s=seconds_of(stretch[1]))
            return Identified(
                video_id=content_id(item.path),
                parts=plan_parts(item.path, self._config.part_s, self._detectors.of(item.uri).window.warm_frames),
                declared_s=declared_s(item.path),
            )
        except MediaError as error:
            return error.failure(item.uri, STEP)


class ScanStage:
    """`SourceFile` → `Scanned` for a whole file, `Measured` for a part of one, which `assemble` takes.

    A file that does not decode to its end gives a failure and no clips: half a video would pass for a whole one.
    """

    step = STEP

    def __init__(self, config: ScanConfig) -> None:
        self._config, self._detectors = config, config.detectors

    @property
    def uses_gpu(self) -> bool:
        return any(detector.uses_gpu for detector in self._detectors)

    def setup(self) -> None:
        """A detector is set up for the first file that needs it."""

    def process(self, items: Sequence[SourceFile]) -> list[Scanned | Measured | Failure]:
        return [self._scan(item) for item in items]

    def give_up(self, item: SourceFile, kind: FailureKind, detail: str, attempts: int) -> Failure:
        return Failure(subject=item.uri, step=STEP, kind=kind, detail=detail, attempts=attempts)

    def _scan(self, item: SourceFile) -> Scanned | Measured | Failure:
        try:
            video = probe(
                item.path,
                item.uri,
                item.video_id or content_id(item.path),
                max_pixels=self._config.max_pixels,
                time_limit_s=self._config.time_limit_s,
            )
            detector = self._detectors.ready(item.uri)
            if (stretch := split_stretch(item.uri)) is not None:
                return _scan_stretch(video, item, self._config, detector, stretch[1])
            if item.part != WHOLE:
                return _measure(video, item.path, self._config, detector, item.part)
            return scan(video, item.path, self._config, detector)
        except MediaError as error:
            return error.failure(item.uri, STEP)


def scan(video: Video, path: str, config: ScanConfig, detector: ShotDetector | None = None) -> Scanned:
    """One pass over a probed file, by the clock of `video.time_base`, or by counting frames where that cannot be used.

    Args:
        video: What the probe said.
        path: Local file.
        config: The settings.
        detector: The file's, after its `setup`; None: it is set up here.

    Raises:
        MediaError: The file does not decode to its end, has no frames, or takes too long.
    """
    if detector is None:
        detector = config.detectors.ready(video.uri)
    return clips_of_parts([measure_file(video, path, config, detector)], detector, config.pieces)


def measure_file(video: Video, path: str, config: ScanConfig, detector: ShotDetector) -> Measured:
    """The numbers of one pass over a probed file, as `scan` takes them."""
    try:
        return _measure(video, path, config, detector, WHOLE)
    except NotSkippableError:
        return measure_file(video, path, config.model_copy(update={"decode": "full"}), detector)
    except UnreliableTimestampsError:
        counted = replace(video, time_base=counted_time_base(video.fps))
        return _measure(counted, path, config, detector, WHOLE)


def _scan_stretch(video: Video, item: SourceFile, config: ScanConfig, detector: ShotDetector, ends: Ends) -> Scanned:
    """The clips of a stretch: no other frame is measured."""
    try:
        part = part_of(video, item.path, item.version, ends)
        return clips_of_parts([_measure(video, item.path, config, detector, part)], detector, config.pieces)
    except NotSkippableError:
        return _scan_stretch(video, item, config.model_copy(update={"decode": "full"}), detector, ends)
    except UnreliableTimestampsError:
        counted = replace(video, time_base=counted_time_base(video.fps))
        return _scan_stretch(counted, item, config, detector, ends)


@lru_cache(maxsize=16)
def _content_id(path: str, version: str | None) -> str:
    """Of a file whose stretches follow one another."""
    return content_id(path)


def assemble(outcomes: Sequence[Measured | Failure], config: ScanConfig) -> Scanned | Failure | None:
    """The result of a pass over a whole file, from the outcomes of `ScanStage` for its parts, in order.

    None where the parts do not give it: a part does not begin as the part before it ended, or a part is damaged, which
    only the whole pass reports exactly. The file is then scanned as a whole.
    """
    parts: list[Measured] = []
    for outcome in outcomes:
        if isinstance(outcome, Measured):
            parts.append(outcome)
        else:
            return outcome if outcome.retryable else None
    if any(before.last != after.past or before.end_pts != after.pts[0] for before, after in pairwise(parts)):
        return None
    detector = config.detectors.of(parts[0].video.uri)
    window = detector.window
    if any(part.num_warm < window.warm_frames for part in parts[1:]):
        return None
    if window.aligned and any(one.first_frame + len(one.pts) != other.first_frame for one, other in pairwise(parts)):
        return None
    try:
        return clips_of_parts(parts, detector, config.pieces)
    except MediaError as error:
        return error.failure(parts[0].video.uri, STEP)


def _measure(video: Video, path: str, config: ScanConfig, detector: ShotDetector, part: Part) -> Measured:
    return measure(
        video,
        path,
        detector,
        part,
        short_side_px=config.short_side_px,
        time_limit_s=config.time_limit_s,
        max_pixels=config.max_pixels,
        is_sparse=config.decode == "fast" and video.time_base != counted_time_base(video.fps),
    )
