"""What curating a collection will take: a pilot run over excerpts of some of its files, scaled to all of it.

The driver behind `reelpack plan INPUT…`. Nothing is modelled: the steps themselves are run and timed.
"""

import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from curate.media.cut import cut_clip
from curate.media.fetch import local_copy
from curate.media.probe import content_id, probe
from curate.scan import Scanned, ScanStage, SourceFile
from curate.schema import Failure, MediaError, Video
from curate.scores.score import ScoreItem, ScoreStage
from curate.select import broken
from pipelines.config import Config
from pipelines.progress import track
from pipelines.sources import list_sources

STEPS = ("identify", "scan", "score", "cut")
SEED = 0
NUM_RESAMPLES = 1000
INTERVAL = (5, 95)
"""Percentiles of the error bar, over resamples of the sampled files."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A predicted amount with the ends of its 90 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class CurationPlan:
    """What a collection is, and what it will take.

    Attributes:
        num_files: Files that the inputs name.
        num_unreadable: Of the sampled ones, those that cannot be read.
        num_sampled: Files that were probed and run.
        video_s: Seconds of video in all.
        step_s: Step → seconds of one worker on this machine.
        clips: Clips in all.
        kept: Of them, kept by the policy.
        shard_bytes: Size of the shards.
        unknown: What the prediction does not hold, in sentences.
    """

    num_files: int
    num_unreadable: int
    num_sampled: int
    video_s: Estimate
    step_s: dict[str, Estimate]
    clips: Estimate
    kept: Estimate
    shard_bytes: Estimate
    unknown: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Excerpt:
    """What one sampled file gave: its length, and seconds of work, clips and bytes per second of video."""

    duration_s: float
    rates: dict[str, float]


def plan(inputs: Sequence[str], config: Config, *, num_sampled: int = 8, excerpt_s: float = 30.0) -> CurationPlan:
    """Predict a run of `curate`.

    Args:
        inputs: files, folders, globs; local paths or fsspec URLs.
        config: as `curate` will get it.
        num_sampled: files that the pilot takes; more of them narrow the error bar.
        excerpt_s: seconds of each of them.

    Raises:
        ValueError: no input file, or no sampled one can be read.
    """
    sources, _ = list_sources(inputs)
    if not sources:
        raise ValueError(f"{', '.join(inputs)}: no files found; give files, folders or globs of videos and images")
    chosen = random.Random(SEED).sample(sources, min(num_sampled, len(sources)))
    pilot = _Pilot(config)
    ran: list[_Excerpt] = []
    num_unreadable = 0
    for source in track(chosen, len(chosen), "pilot"):
        try:
            ran.append(pilot.run(local_copy(source.uri), excerpt_s))
        except MediaError:
            num_unreadable += 1
    if not ran:
        raise ValueError(f"none of {len(chosen)} sampled files can be read; `reelpack curate` says why, file by file")
    readable = len(ran) / len(chosen) * len(sources)

    def total(of: str | None) -> Estimate:
        durations = np.array([one.duration_s for one in ran])
        amounts = durations if of is None else durations * np.array([one.rates[of] for one in ran])
        return _bootstrap(amounts, readable)

    return CurationPlan(
        num_files=len(sources),
        num_unreadable=num_unreadable,
        num_sampled=len(chosen),
        video_s=total(None),
        step_s={step: total(step) for step in STEPS},
        clips=total("clips"),
        kept=total("kept"),
        shard_bytes=total("bytes"),
        unknown=(
            "files of one collection may differ more than the sampled ones do",
            "duplicates are counted as kept",
            "download of remote files, captions and latents are not in it",
        ),
    )


def _bootstrap(amounts: np.ndarray, num_files: float) -> Estimate:
    """Mean of the sampled files times the number of files; the interval by resampling them."""
    rng = np.random.default_rng(SEED)
    means = amounts[rng.integers(len(amounts), size=(NUM_RESAMPLES, len(amounts)))].mean(1)
    low, high = np.percentile(means, INTERVAL)
    return Estimate(value=amounts.mean() * num_files, low=low * num_files, high=high * num_files)


class _Pilot:
    """The steps of `curate`, run on one excerpt after the other; models are loaded once, as a worker does."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.scan = ScanStage(config.scan)
        self.score = ScoreStage(config.score, config.select)
        self.score.setup()

    def run(self, path: str, excerpt_s: float) -> _Excerpt:
        """Identify, scan, score, decide and cut an excerpt of a file.

        Raises:
            MediaError: the file cannot be read.
        """
        spent: dict[str, float] = {}
        with tempfile.TemporaryDirectory() as folder:
            with _timed(spent, "identify"):
                whole = probe(path, path, content_id(path))
            source = excerpt(path, whole, excerpt_s, f"{folder}/excerpt.mkv")
            with _timed(spent, "scan"):
                (scanned,) = self.scan.process([SourceFile(uri=source, path=source, size_bytes=0)])
            if not isinstance(scanned, Scanned):
                assert isinstance(scanned, Failure)
                raise MediaError(scanned.kind, scanned.detail)
            clips = [(item.clip, dict(item.signals)) for item in scanned.clips]
            with _timed(spent, "score"):
                items = [ScoreItem(clip=clip, path=source, known=known) for clip, known in clips]
                outcomes = self.score.process(items)
            kept = []
            for (clip, known), outcome in zip(clips, outcomes, strict=True):
                columns = (
                    {}
                    if isinstance(outcome, Failure)
                    else {k: v for f in outcome.values.values() for k, v in f.items()}
                )
                numbers = {name: value for name, value in columns.items() if isinstance(value, float)}
                sizes = {"duration_s": clip.span.duration_s, "short_side_px": float(min(clip.width, clip.height))}
                if not broken({**known, **sizes, **numbers}, clip.kind, self.config.select):
                    kept.append(clip)
            size = 0
            with _timed(spent, "cut"):
                for clip in kept:
                    size += len(cut_clip(source, clip.span, self.config.shards.encode).data)
        seconds = sum(clip.span.duration_s for clip, _ in clips) or 1.0
        # Hashing reads the whole file, everything else only the excerpt.
        rates = {step: spent[step] / seconds for step in STEPS} | {
            "identify": spent["identify"] / (whole.duration_s or seconds),
            "clips": len(clips) / seconds,
            "kept": len(kept) / seconds,
            "bytes": size / seconds,
        }
        return _Excerpt(duration_s=whole.duration_s or seconds, rates=rates)


def excerpt(path: str, video: Video, seconds: float, out: str) -> str:
    """A stream copy of about `seconds` from the middle of a file, begun at a key frame; `path` itself if it is short
    or its packets do not fit into Matroska."""
    import av

    duration_s = video.duration_s or 0.0
    if video.kind == "image" or duration_s <= seconds * 1.5:
        return path
    try:
        with av.open(path) as source, av.open(out, "w", format="matroska") as target:
            stream = source.streams.video[0]
            copy = target.add_stream_from_template(stream)
            assert stream.time_base is not None
            source.seek(int((duration_s - seconds) / 2 / stream.time_base), stream=stream)
            first: int | None = None
            for packet in source.demux(stream):
                if packet.pts is None:
                    continue
                first = packet.pts if first is None else first
                if float((packet.pts - first) * stream.time_base) > seconds:
                    break
                packet.stream = copy
                target.mux(packet)
    except (av.error.FFmpegError, ValueError):
        return path
    return out


@contextmanager
def _timed(spent: dict[str, float], step: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    spent[step] = time.perf_counter() - start
