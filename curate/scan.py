"""Stage: a file → its video row and its clips, with every cheap signal, from one low-resolution decode."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from curate.media.frames import iter_frames
from curate.media.probe import content_id, probe
from curate.media.stream import UnreliableTimestampsError, counted_time_base
from curate.schema import Clip, Failure, FailureKind, MediaError, Span, Video, clip_id, content_digest
from curate.shots.adaptive import AdaptiveConfig
from curate.shots.config import ShotDetectorConfig
from curate.shots.pieces import PieceConfig, divide
from curate.signals.freeze import FreezeSignal
from curate.signals.letterbox import LetterboxSignal
from curate.signals.luminance import LuminanceSignal
from curate.signals.motion import MotionSignal
from curate.signals.sharpness import SharpnessSignal
from curate.signals.signal import FrameSignal, ScanFrame

SCAN_VERSION = 1
"""Raised when the same configuration gives other clips or signals."""

STEP = "scan"
SIGNAL_DIGITS = 6
SIGNALS: tuple[type[FrameSignal], ...] = (
    MotionSignal,
    SharpnessSignal,
    LuminanceSignal,
    FreezeSignal,
    LetterboxSignal,
)
SIGNAL_NAMES = tuple(name for signal in SIGNALS for name in signal.names)


class ScanConfig(BaseModel):
    """Shots and cheap signals."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    short_side_px: int = Field(default=144, ge=32, description="short side of the frames of the pass, in pixels")
    detector: ShotDetectorConfig = Field(default=AdaptiveConfig(), description="what finds the cuts")
    pieces: PieceConfig = Field(default=PieceConfig(), description="how shots become clips")
    time_limit_s: float | None = Field(
        default=4 * 3600.0, gt=0, description="seconds of wall clock for one file; null for no limit"
    )

    @property
    def key(self) -> str:
        """Names what the results depend on: equal keys and equal bytes give equal clips and signals."""
        return content_digest("scan", str(SCAN_VERSION), self.model_dump_json(exclude={"time_limit_s"}))


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFile:
    """One input: `uri` is the user's name for it, `path` where its bytes are on this machine.

    `video_id` is what `IdentifyStage` said; None where nobody asked yet.
    """

    uri: str
    path: str
    size_bytes: int
    video_id: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ScannedClip:
    """A clip and its signals; every signal is finite."""

    clip: Clip
    signals: dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scanned:
    """A file that was decoded from its first frame to its last."""

    video: Video
    num_decoded_frames: int
    num_short_shots: int
    clips: tuple[ScannedClip, ...]


class IdentifyStage:
    """`SourceFile` → its `video_id`. Comes before the scan, so that equal bytes at two places are scanned once."""

    def setup(self) -> None:
        """Needs no weights."""

    def process(self, items: Sequence[SourceFile]) -> list[str | Failure]:
        return [self._identify(item) for item in items]

    def _identify(self, item: SourceFile) -> str | Failure:
        try:
            return content_id(item.path)
        except MediaError as error:
            return error.failure(item.uri, STEP)


class ScanStage:
    """`SourceFile` → `Scanned`. A file that does not decode to its end gives no clips, but a failure: half a film
    would look like a whole one."""

    def __init__(self, config: ScanConfig) -> None:
        self._config = config

    def setup(self) -> None:
        """Needs no weights."""

    def process(self, items: Sequence[SourceFile]) -> list[Scanned | Failure]:
        return [self._scan(item) for item in items]

    def _scan(self, item: SourceFile) -> Scanned | Failure:
        try:
            video = probe(item.path, item.uri, item.video_id or content_id(item.path))
            try:
                return scan(video, item.path, self._config)
            except UnreliableTimestampsError:
                return scan(replace(video, time_base=counted_time_base(video.fps)), item.path, self._config)
        except MediaError as error:
            return error.failure(item.uri, STEP)


def scan(video: Video, path: str, config: ScanConfig) -> Scanned:
    """One pass over a probed file, by the clock of `video.time_base`.

    Raises:
        MediaError: The file does not decode to its end, shows nothing, or takes too long.
        UnreliableTimestampsError: The stream's own times cannot be used.
    """
    detector = config.detector.build()
    signals = [signal() for signal in SIGNALS]
    pts, scores, measured = array("q"), array("d"), array("d")
    tick_s = float(video.time_base)
    end_pts = 0
    for frame in iter_frames(
        path, short_side_px=config.short_side_px, time_base=video.time_base, time_limit_s=config.time_limit_s
    ):
        pts.append(frame.pts)
        end_pts = frame.pts + frame.duration
        scores.append(detector.measure(frame.rgb))
        scan_frame = ScanFrame(shown_s=frame.pts * tick_s, rgb=frame.rgb)
        for signal in signals:
            measured.extend(signal.measure(scan_frame))
    if not pts:
        raise MediaError(FailureKind.NO_FRAMES, f"{path} has a {video.codec} stream without frames")
    table = np.array(measured).reshape(len(pts), -1)
    times = np.array([*pts, end_pts], np.int64)
    edges_s = times * tick_s
    cuts = detector.cuts(np.array(scores), times[:-1], video.time_base, video.fps)
    pieces = divide(cuts, edges_s[:-1], edges_s[-1], config.pieces)
    return Scanned(
        video=video,
        num_decoded_frames=len(pts),
        num_short_shots=pieces.num_short,
        clips=tuple(
            ScannedClip(
                clip=_clip(video, times, first, end),
                signals=_summary(signals, table[first:end], edges_s[first : end + 1]),
            )
            for first, end in pieces.ranges
        ),
    )


def _clip(video: Video, times: np.ndarray, first: int, end: int) -> Clip:
    span = Span(start_pts=int(times[first]), end_pts=int(times[end]), time_base=video.time_base)
    return Clip(
        clip_id=clip_id(video.video_id, span),
        video_id=video.video_id,
        video_uri=video.uri,
        kind=video.kind,
        span=span,
        fps=video.fps,
        width=video.width,
        height=video.height,
        num_frames=end - first,
    )


def _summary(signals: list[FrameSignal], table: np.ndarray, edges_s: np.ndarray) -> dict[str, float]:
    summary: dict[str, float] = {}
    column = 0
    for signal in signals:
        values = table[:, column : column + signal.num_values]
        column += signal.num_values
        summary |= signal.summarize(values, edges_s[:-1], float(edges_s[-1]))
    return {name: round(float(value), SIGNAL_DIGITS) for name, value in summary.items()}
