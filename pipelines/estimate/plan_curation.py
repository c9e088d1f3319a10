"""Cost of curating a collection, estimated by a pilot run over excerpts.

The driver behind `reelpack plan INPUT…`. Nothing is modelled: headers say how much video there is, and the steps
themselves are run and timed on excerpts. Each excerpt stands for its file's length; totals are ratio estimates, and
the error bar comes from drawing the excerpts again and again (the bootstrap; Efron, 1979).
"""

import random
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

import numpy as np
from fsspec.implementations.local import LocalFileSystem

from curate.media.fetch import local_copy
from curate.media.probe import probe
from curate.schema import MediaError
from curate.shots.sources import Detectors
from curate.shots.spans import SpansDetector
from curate.shots.stretch import StretchDetector, seconds_of
from curate.storage.inside import container_uri, split_stretch
from curate.storage.place import locate
from pipelines.config import Config
from pipelines.console.progress import console, track
from pipelines.estimate.bootstrap import NUM_RESAMPLES, SEED, Estimate, drawn, estimated, num_workers_of
from pipelines.estimate.pilot import STEPS, Excerpt, Measured, Pilot, take_excerpt
from pipelines.inputs.listing import list_sources
from pipelines.inputs.sources import Source, left_out_text, refuse_mistyped
from pipelines.steps.scan import check_detectors

MAX_PROBED = 1000
"""Most local files whose headers are all read; of more, a sample is read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CurationPlan:
    """A collection and its predicted cost.

    Attributes:
        num_files: Files that the inputs name.
        num_probed: Of them, those whose headers were read.
        num_unreadable: Of these, those that cannot be read.
        num_excerpts: Excerpts that were run.
        num_workers: Workers that this machine has for a stage.
        video_s: Seconds of video in all.
        step_s: Step → seconds of one worker.
        total_s: Seconds with all workers.
        clips: Clips in all.
        kept: Of them, kept by the policy.
        shard_bytes: Size of the shards.
        unknown: What the prediction does not hold, in sentences.
    """

    num_files: int
    num_probed: int
    num_unreadable: int
    num_excerpts: int
    num_workers: int
    video_s: Estimate
    step_s: Mapping[str, Estimate]
    total_s: Estimate
    clips: Estimate
    kept: Estimate
    shard_bytes: Estimate
    unknown: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _File:
    """A readable input; `length` is in seconds, and 1 for an image."""

    source: Source
    is_image: bool
    length: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _Unit:
    """An excerpt that was run, and how much of its file's length it stands for."""

    file: _File
    weight: float
    measured: Measured


def plan(inputs: Sequence[str], config: Config, *, num_sampled: int = 8, excerpt_s: float = 30.0) -> CurationPlan:
    """Predict a run of `curate`.

    Args:
        inputs: files, folders, globs; local paths or fsspec URLs.
        config: as `curate` will get it.
        num_sampled: excerpts that the pilot runs; more of them narrow the error bar.
        excerpt_s: seconds of each of them, at least.

    Raises:
        ValueError: no input file, none that was tried can be read, or a shot detector lacks what it needs.
    """
    refuse_mistyped(inputs)
    left_out: list[str] = []
    sources, _ = list_sources(inputs, leave_out=left_out.append)
    if left_out:
        console.print(left_out_text(left_out), highlight=False, markup=False, soft_wrap=True)
    if not sources:
        raise ValueError(f"{', '.join(inputs)}: no files found; give files, folders or globs of videos and images")
    check_detectors(config.scan, [source.uri for source in sources])
    tried = _to_probe(sources, num_sampled)
    files = [file for source in track(tried, len(tried), "probe") if (file := _probed(source, config))]
    windows = _windows(files, config.scan.detectors, num_sampled, excerpt_s)
    units, identified = _run_pilot(windows, config, excerpt_s)
    if not any(unit.measured.num_clips for unit in units):
        raise ValueError(
            f"none of {len(tried)} files that were tried gave a clip; `reelpack curate` says why, file by file"
        )
    sums = _Sums(units, files, num_tried=len(tried), num_files=len(sources))
    step_s = {"identify": _identify_s(identified, sum(source.size_bytes for source in sources))}
    step_s |= {step: sums.total(lambda one, step=step: one.step_s[step]) for step in STEPS}  # type: ignore[misc]
    clips, kept = sums.clips()
    num_workers = num_workers_of(config.execute)
    return CurationPlan(
        num_files=len(sources),
        num_probed=len(tried),
        num_unreadable=len(tried) - len(files),
        num_excerpts=len(units),
        num_workers=num_workers,
        video_s=estimated(sums.video_s()),
        step_s={step: estimated(spent) for step, spent in step_s.items()},
        total_s=estimated(np.sum(list(step_s.values()), axis=0) / num_workers),
        clips=estimated(clips),
        kept=estimated(kept),
        shard_bytes=estimated(sums.total(lambda one: one.num_bytes)),
        unknown=(
            "what the excerpts do not show, and damage inside files",
            "workers that slow one another down, on one disk or in one memory",
            "duplicates: they count as kept",
            "downloads of remote files, captions and latents",
        ),
    )


def _to_probe(sources: Sequence[Source], num_sampled: int) -> list[Source]:
    """All files where that is quick; else a sample. A remote file is fetched to be probed."""
    is_local = all(isinstance(locate(container_uri(source.address))[0], LocalFileSystem) for source in sources)
    count = min(MAX_PROBED if is_local else num_sampled, len(sources))
    return random.Random(SEED).sample(list(sources), count)


def _probed(source: Source, config: Config) -> _File | None:
    try:
        with local_copy(source.address, config.execute.staging) as path:
            video = probe(path, source.uri, "")
    except MediaError:
        return None
    if video.kind == "image":
        return _File(source=source, is_image=True, length=1.0)
    if (stretch := split_stretch(source.uri)) is not None:
        length_s = seconds_of(stretch[1])
        return _File(source=source, is_image=False, length=video.duration_s or 1.0 if length_s is None else length_s)
    # A header that is silent is taken for a short file: the pilot then runs all of it.
    return _File(source=source, is_image=False, length=video.duration_s or 1.0)


def _windows(
    files: Sequence[_File], detectors: Detectors, count: int, excerpt_s: float
) -> list[tuple[_File, float | None, int]]:
    """Excerpts to run: file, second at which it begins (None: the whole file), and how many the file gets.

    Files take turns, images and videos alternately; a long file is asked again when all have had theirs. A film whose
    spans are listed is run as a whole, and so is a stretch.
    """

    def is_whole(file: _File) -> bool:
        is_short = file.is_image or file.length <= 1.5 * excerpt_s
        return is_short or isinstance(detectors.of(file.source.uri), SpansDetector | StretchDetector)

    draw = random.Random(SEED)
    kinds = [[file for file in files if file.is_image == is_image] for is_image in (False, True)]
    for kind in kinds:
        draw.shuffle(kind)
    queue = [file for file in chain.from_iterable(zip_longest(*kinds)) if file is not None]
    room = {file.source.uri: 1 if is_whole(file) else max(1, int(file.length / (1.5 * excerpt_s))) for file in queue}
    given: dict[str, int] = defaultdict(int)
    while (open_files := [file for file in queue if given[file.source.uri] < room[file.source.uri]]) and count > 0:
        for file in open_files[:count]:
            given[file.source.uri] += 1
        count -= len(open_files)
    windows: list[tuple[_File, float | None, int]] = []
    for file in queue:
        parts = given[file.source.uri]
        for part in range(parts):  # one in each of so many equal parts of the file
            stretch = file.length / parts
            start_s = part * stretch + draw.random() * max(0.0, stretch - excerpt_s)
            windows.append((file, None if is_whole(file) else start_s, parts))
    return windows


def _run_pilot(
    windows: Sequence[tuple[_File, float | None, int]], config: Config, excerpt_s: float
) -> tuple[list[_Unit], list[tuple[int, float]]]:
    """The excerpts that were run, and for each of their files its size and the seconds that hashing it takes."""
    pilot = Pilot(config)
    units: list[_Unit] = []
    identified: dict[str, tuple[int, float]] = {}
    for file, start_s, parts in track(windows, len(windows), "pilot"):
        uri = file.source.uri
        try:
            with (
                local_copy(file.source.address, config.execute.staging) as path,
                tempfile.TemporaryDirectory() as folder,
            ):
                if uri not in identified:
                    identified[uri] = (file.source.size_bytes, pilot.identify(path, uri))
                excerpt = Excerpt(path=path)
                if start_s is not None:
                    excerpt = take_excerpt(path, start_s, excerpt_s, f"{folder}/excerpt.mkv")
                measured = pilot.run(excerpt, uri, is_image=file.is_image)
        except MediaError:  # it will fail in `curate` as well, and give no clip
            measured = _nothing(file.length if start_s is None else excerpt_s)
        units.append(_Unit(file=file, weight=file.length / parts, measured=measured))
    return units, list(identified.values())


def _nothing(seconds: float) -> Measured:
    none = dict.fromkeys(STEPS, 0.0)
    return Measured(seconds=seconds, window_s=seconds, step_s=none, num_clips=0, num_starts=0, num_kept=0, num_bytes=0)


class _Sums:
    """Totals over a collection, each as an array (1 + NUM_RESAMPLES,): the estimate, and those of the resamples.

    Args:
        units: the excerpts that were run.
        files: the readable ones of the files that were probed.
        num_tried: files that were probed.
        num_files: files of the collection.
    """

    def __init__(self, units: Sequence[_Unit], files: Sequence[_File], *, num_tried: int, num_files: int) -> None:
        rng = np.random.default_rng(SEED)
        self._units = {kind: [unit for unit in units if unit.file.is_image == kind] for kind in (False, True)}
        self._draws = {kind: drawn(rng, len(of_kind)) for kind, of_kind in self._units.items() if of_kind}
        self._lengths: dict[bool, np.ndarray] = {}
        self._counts: dict[bool, np.ndarray] = {}
        # With every header read the lengths are known; else they are drawn as well, unreadable files with length 0.
        rows = drawn(rng, num_tried) if num_tried < num_files else np.arange(num_tried)[None]
        for kind in self._draws:
            lengths = np.zeros(num_tried)
            of_kind = [file.length for file in files if file.is_image == kind]
            lengths[: len(of_kind)] = of_kind
            self._lengths[kind] = lengths[rows].mean(1) * num_files
            self._counts[kind] = (lengths > 0)[rows].mean(1) * num_files

    def video_s(self) -> np.ndarray:
        return self._lengths.get(False, np.zeros(1)) + np.zeros(1 + NUM_RESAMPLES)

    def total(self, amount: Callable[[Measured], float]) -> np.ndarray:
        """An amount that grows with the length of videos and the number of images."""
        return sum(
            (self._lengths[kind] * self._ratio(kind, amount, lambda one: one.seconds) for kind in self._draws),
            start=np.zeros(1 + NUM_RESAMPLES),
        )

    def clips(self) -> tuple[np.ndarray, np.ndarray]:
        """Clips in all, and those that are kept. Every file has one to begin with, and one more per cut."""
        clips, kept = np.zeros(1 + NUM_RESAMPLES), np.zeros(1 + NUM_RESAMPLES)
        for kind in self._draws:
            starts = self._ratio(kind, lambda one: one.num_starts, lambda one: one.window_s)
            readable = self._ratio(kind, lambda one: one.num_clips > 0, lambda _: 1)
            of_kind = self._counts[kind] * readable + self._lengths[kind] * starts
            clips += of_kind
            kept += of_kind * self._ratio(kind, lambda one: one.num_kept, lambda one: one.num_clips)
        return clips, kept

    def _ratio(self, kind: bool, upper: Callable[[Measured], float], lower: Callable[[Measured], float]) -> np.ndarray:
        """Σ upper / Σ lower over the units of each draw, each unit scaled to the length that it stands for."""
        units = self._units[kind]
        scale = np.array([unit.weight / unit.measured.seconds for unit in units])
        above = (np.array([upper(unit.measured) for unit in units]) * scale)[self._draws[kind]].sum(1)
        below = (np.array([lower(unit.measured) for unit in units]) * scale)[self._draws[kind]].sum(1)
        return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _identify_s(identified: Sequence[tuple[int, float]], num_bytes: int) -> np.ndarray:
    """Seconds to hash so many bytes, from files of which size and seconds are given."""
    sizes, seconds = np.array(identified, float).T
    rows = drawn(np.random.default_rng(SEED), len(identified))
    return seconds[rows].sum(1) / np.maximum(sizes[rows].sum(1), 1) * num_bytes
