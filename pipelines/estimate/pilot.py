"""The timed steps of `curate` on one excerpt after another, in one process; `plan` scales the times."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curate.media.cut import cut_clips
from curate.media.encode import encode_mp4
from curate.media.stream import VideoReader
from curate.scan import IdentifyStage, ScanStage, SourceFile
from curate.scanned import Scanned
from curate.schema import Failure, MediaError, Span
from curate.scores.score import Scored, ScoreItem, ScoreStage
from curate.select import broken
from pipelines.config import Config

STEPS = ("scan", "score", "cut")
WARM_UP_FRAMES = 24
CONTEXT_S = 1.0
"""Seconds read after a window, so that a cut at its end is found."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Excerpt:
    """A file, and the requested window in seconds from its first frame; None for the whole file."""

    path: str
    window: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What the steps made of an excerpt.

    Attributes:
        seconds: Length of the excerpt; 1 for an image, which has none.
        window_s: Of them, those that were asked for: an excerpt begins at the key frame before.
        step_s: Step → seconds of work.
        num_clips: Clips, the cut-off ones at the ends of the excerpt among them.
        num_starts: Of them, those that start in the window; not the first one, which starts where the excerpt does.
        num_kept: Of them, those that no rule of the policy rejects.
        num_bytes: Size of these in a shard.
    """

    seconds: float
    window_s: float
    step_s: dict[str, float]
    num_clips: int
    num_starts: int
    num_kept: int
    num_bytes: int


class Pilot:
    """A worker of every step. Models are loaded, and everything is run once, before anything is timed."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._identify = IdentifyStage(config.scan)
        self._scan = ScanStage(config.scan)
        self._score = ScoreStage(config.score, config.select, config.media)
        self._score.setup()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "warm_up.mp4")
            noise = np.random.default_rng(0).integers(0, 256, (WARM_UP_FRAMES, 96, 128, 3), dtype=np.uint8)
            path.write_bytes(encode_mp4(noise, WARM_UP_FRAMES))
            self.identify(str(path), str(path))
            with suppress(MediaError):  # a list of shots does not name it
                self.run(Excerpt(path=str(path)), str(path), is_image=False)

    def identify(self, path: str, uri: str) -> float:
        """Seconds that it takes to hash a file and to find its parts.

        Args:
            path: of its copy.
            uri: its own, which names its shot detector.

        Raises:
            MediaError: the file cannot be read.
        """
        start = time.perf_counter()
        (found,) = self._identify.process([_source(path, uri)])
        if isinstance(found, Failure):
            raise MediaError(found.kind, found.detail)
        return time.perf_counter() - start

    def run(self, excerpt: Excerpt, uri: str, *, is_image: bool) -> Measured:
        """Scan, score, decide and cut.

        Args:
            excerpt: what is run.
            uri: of its file.
            is_image: whether it has one frame.

        Raises:
            MediaError: the file cannot be read to its end, or a clip of it cannot be cut.
        """
        path = excerpt.path
        step_s: dict[str, float] = {}
        with _timed(step_s, "scan"):
            (scanned,) = self._scan.process([_source(path, uri)])
        if isinstance(scanned, Failure):
            raise MediaError(scanned.kind, scanned.detail)
        assert isinstance(scanned, Scanned), "a whole file was asked for"
        items = [ScoreItem(clip=one.clip, path=path, known=one.signals) for one in scanned.clips]
        with _timed(step_s, "score"):
            outcomes = self._score.process(items)
        kept = [item.clip.span for item, outcome in zip(items, outcomes, strict=True) if self._keeps(item, outcome)]
        num_bytes = 0
        with _timed(step_s, "cut"):
            for clip in cut_clips(path, kept, self.config.shards.encode) if kept else ():
                if isinstance(clip, MediaError):
                    raise clip
                num_bytes += len(clip.data)
        spans = [item.clip.span for item in items]
        seconds = 1.0 if is_image else _length(spans, scanned.video.duration_s)
        low, high = excerpt.window or (0.0, seconds)
        first_s = min((span.start_s for span in spans), default=0.0)
        return Measured(
            seconds=seconds,
            window_s=high - low,
            step_s=step_s,
            num_clips=len(items),
            num_starts=sum(max(low, 1e-6) <= span.start_s - first_s < high for span in spans),
            num_kept=len(kept),
            num_bytes=num_bytes,
        )

    def _keeps(self, item: ScoreItem, outcome: Scored | Failure) -> bool:
        if isinstance(outcome, Failure):
            return False
        values = {column: value for family in outcome.values.values() for column, value in family.items()}
        clip = item.clip
        facts = {"duration_s": clip.span.duration_s, "short_side_px": float(min(clip.width, clip.height))}
        numbers = {name: value for name, value in values.items() if isinstance(value, float)}
        return not broken({**item.known, **facts, **numbers}, clip.kind, self.config.select)


def take_excerpt(path: str, start_s: float, seconds: float, out: str) -> Excerpt:
    """A stream copy of a window of a video, and what must come along for it to be decoded; all of the video where its
    packets do not fit into Matroska.

    Args:
        path: a video.
        start_s: where the window begins, seconds after the file's first frame.
        seconds: its length.
        out: the file to write.
    """
    import av

    try:
        with VideoReader(path) as reader, av.open(out, "w", format="matroska") as target:
            source, stream = reader.container, reader.stream
            assert stream.time_base is not None
            copy = target.add_stream_from_template(stream)
            start = (stream.start_time or 0) + int(start_s / stream.time_base)
            source.seek(start, stream=stream)
            first: int | None = None
            for packet in source.demux(stream):
                if packet.pts is None or packet.dts is None:
                    continue
                first = packet.pts if first is None else first
                if packet.pts < first:
                    continue  # shown before the key frame: it needs frames that are not copied
                if (packet.pts - start) * stream.time_base >= seconds + CONTEXT_S:
                    break
                packet.pts, packet.dts, packet.stream = packet.pts - first, packet.dts - first, copy
                target.mux(packet)
    except (MediaError, av.error.FFmpegError, ValueError):
        return Excerpt(path=path)
    if first is None:
        return Excerpt(path=path)
    before_s = max(0.0, float((start - first) * stream.time_base))
    return Excerpt(path=out, window=(before_s, before_s + seconds))


def _length(spans: list[Span], header_s: float | None) -> float:
    """Seconds from the first clip to the last, or what the header says where there is no clip."""
    if not spans:
        return header_s or 1.0
    return max(span.end_s for span in spans) - min(span.start_s for span in spans)


def _source(path: str, uri: str) -> SourceFile:
    return SourceFile(uri=uri, path=path, size_bytes=0)


@contextmanager
def _timed(spent: dict[str, float], step: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    spent[step] = time.perf_counter() - start
