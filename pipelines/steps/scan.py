"""Step: input files → video rows and clip rows. Equal bytes at two URIs are scanned once, long files in parts."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from curate.dataset.dataset import Dataset
from curate.dataset.rows import clip_row, failed_video_row, identified_of, identity_row, video_row
from curate.dataset.scans import current_videos
from curate.media.counter import STILL_S
from curate.media.fetch import Staged
from curate.media.parts import WHOLE, Part
from curate.scan import Identified, IdentifyStage, ScanConfig, ScanKeys, ScanStage, SourceFile, assemble
from curate.scanned import Scanned
from curate.schema import Failure
from pipelines.console.progress import BYTES, SECONDS, console
from pipelines.execute.base import Executor, Resources
from pipelines.execute.work import Results, failures_of
from pipelines.inputs.sources import Source
from pipelines.steps.run import CurateRun
from pipelines.takedown.remove import erase_own

NOWHERE = ""
"""The version of what is no file."""


def check_detectors(config: ScanConfig, uris: Collection[str], known: Collection[str] = ()) -> None:
    """Before anything is scanned: see that each file's detector has what it needs, and tell what is of no use.

    Args:
        config: the settings.
        uris: of the inputs.
        known: those of the runs before.

    Raises:
        ValueError: a detector lacks its weights, or the list that it reads, or that does not fit the files.
    """
    for note in config.detectors.check(uris, known):
        console.print(note, markup=False, highlight=False, soft_wrap=True)


def scan(
    run: CurateRun,
    executor: Executor,
    sources: Sequence[Source],
    unlisted: Sequence[Failure],
    inputs: Sequence[str],
    named_before: Collection[str] = (),
) -> None:
    """Identify, probe and scan the inputs that are new or whose failure is to be tried again.

    Args:
        run: the dataset and its settings.
        executor: what runs the stages.
        sources: the files that the inputs name.
        unlisted: inputs that name nothing or cannot be listed.
        inputs: all inputs of this run, as they are named from any folder, and the lists and tars among their files.
        named_before: those of the runs before.
    """
    keys, dataset = ScanKeys(run.config.scan), run.dataset
    stored = dataset.videos.rows()
    rows = [row for row in stored if row["scan_key"] == keys.of(row["uri"])]
    _forget_found(run, rows, inputs, {failure.subject for failure in unlisted}, {*inputs, *named_before})
    known = {(row["uri"], row["version"]) for row in rows if run.is_done(row["failure"])}
    forgotten = dataset.tombstones()
    sources = [source for source in sources if source.uri not in forgotten.uris]
    by_uri = {source.uri: source for source in sources}
    new = [source for source in sources if (source.uri, source.version) not in known]
    scanned = {row["uri"] for row in rows if row["outcome"] == "ok"}
    _fail_videos(run, unlisted, {failure.subject: _nowhere(failure.subject) for failure in unlisted}, scanned)
    identified = _identify(run, executor, new, by_uri, scanned)
    identified = _without_forgotten(dataset, identified)
    same: dict[tuple[str, str], list[str]] = defaultdict(list)
    for uri, found in sorted(identified.items()):
        same[found.video_id, keys.of(uri)].append(uri)
    done = {(row["video_id"], row["scan_key"]): row for row in stored if row["outcome"] == "ok"}
    dataset.videos.publish(
        {**done[both], "uri": uri, "version": by_uri[uri].version}
        for both in sorted(same.keys() & done.keys())
        for uri in same[both]
    )
    todo = [
        replace(_file(by_uri[uris[0]]), video_id=video_id)
        for (video_id, key), uris in sorted(same.items())
        if (video_id, key) not in done
    ]
    copies = {uris[0]: uris for uris in same.values()}
    for outcomes in _scanned(run, executor, todo, identified):
        scans = [outcome for _, outcome in outcomes if isinstance(outcome, Scanned)]
        # Clips first: a video row says that its clips are there.
        dataset.clips.publish(clip_row(clip, keys.of(one.video.uri)) for one in scans for clip in one.clips)
        dataset.videos.publish(
            {**video_row(one.video, by_uri[uri].version, keys.of(uri)), "uri": uri}
            for one in scans
            for uri in copies[one.video.uri]
        )
        failed = [
            replace(outcome, subject=uri, detail=outcome.detail.replace(file.uri, uri))
            for file, outcome in outcomes
            if isinstance(outcome, Failure)
            for uri in copies[file.uri]
        ]
        _fail_videos(run, failed, by_uri, scanned)
        run.num_frames_decoded += sum(one.num_decoded_frames for one in scans)
        for one in scans:
            for note in one.video.notes:
                console.print(f"{one.video.uri}: {note}", markup=False)
    _forget_failures(run, sources)


def _scanned(
    run: CurateRun, executor: Executor, files: Sequence[SourceFile], identified: Mapping[str, Identified]
) -> Iterator[Results]:
    """Whole files with their outcomes. A file whose parts do not fit together is scanned again, as a whole.

    Args:
        run: the dataset and its settings.
        executor: what runs the stage.
        files: each with bytes and a detector of its own.
        identified: URI → the parts that it is scanned in, and their length.
    """
    scanner = ScanStage(run.config.scan)
    stage, resources = Staged(scanner, run.config.execute.staging), Resources()
    if scanner.uses_gpu:
        resources = Resources(num_gpus=run.config.execute.gpus_per_worker)
    items = [replace(file, part=part) for file in files for part in identified[file.uri].parts]
    measured: dict[str, dict[Part, Any]] = {}
    again: list[SourceFile] = []

    def seconds(item: SourceFile) -> float:
        known = identified[item.uri]
        return max(STILL_S, known.declared_s or 0.0) / (1 if item.part == WHOLE else len(known.parts))

    for results in run.work(executor, stage, items, resources, "scan", SECONDS, seconds):
        whole: Results = []
        for item, outcome in results:
            expected = identified[item.uri].parts
            if len(expected) == 1:
                whole.append((item, outcome))
                continue
            found = measured.setdefault(item.uri, {})
            found[item.part] = outcome
            if len(found) == len(expected):
                file, outcomes = replace(item, part=WHOLE), [found[part] for part in expected]
                del measured[item.uri]
                assembled = assemble(outcomes, run.config.scan)
                if assembled is None:
                    again.append(file)
                else:
                    whole.append((file, assembled))
        yield whole
    yield from run.work(executor, stage, again, resources, "scan again", SECONDS, seconds)


def _identify(
    run: CurateRun,
    executor: Executor,
    sources: Sequence[Source],
    by_uri: Mapping[str, Source],
    scanned: Collection[str],
) -> dict[str, Identified]:
    """URI → content id, the parts that the file is scanned in, and its length."""
    table, part_s, detectors = run.dataset.identities, run.config.scan.part_s, run.config.scan.detectors
    wanted = {source.uri: source.version for source in sources}
    identities = {
        row["uri"]: identified_of(row)
        for row in table.rows()
        if row["uri"] in wanted
        and (row["version"], row["part_s"]) == (wanted[row["uri"]], part_s)
        and _has_warm_frames(row, detectors.of(row["uri"]).window.warm_frames)
    }
    files = [_file(source) for source in sources if source.uri not in identities]
    stage = Staged(IdentifyStage(run.config.scan), run.config.execute.staging)
    for results in run.work(executor, stage, files, Resources(), "identify", BYTES, _bytes):
        _fail_videos(run, failures_of(results), by_uri, scanned)
        found = {file.uri: outcome for file, outcome in results if isinstance(outcome, Identified)}
        table.publish(
            identity_row(uri, by_uri[uri].version, outcome, part_s, detectors.of(uri).window.warm_frames)
            for uri, outcome in found.items()
        )
        identities |= found
    return identities


def _without_forgotten(dataset: Dataset, identified: Mapping[str, Identified]) -> dict[str, Identified]:
    """Those whose bytes were not taken down; the others get a tombstone, too, and are not read again."""
    of_video = {row["video_id"]: row for row in dataset.forgotten.rows() if row["video_id"]}
    again = {uri: of_video[found.video_id] for uri, found in identified.items() if found.video_id in of_video}
    if again:
        erase_own(dataset, again)
        dataset.identities.erase("uri", again)
        dataset.forgotten.publish({**row, "uri": uri, "num_clips": 0} for uri, row in sorted(again.items()))
        for uri, row in sorted(again.items()):
            console.print(
                f"{uri}: left out, has the bytes of {row['uri']}, which was forgotten", markup=False, soft_wrap=True
            )
    return {uri: found for uri, found in identified.items() if uri not in again}


def _has_warm_frames(identity: Mapping[str, Any], warm_frames: int) -> bool:
    """Whether the parts in an identity row begin so many frames before their own. An earlier reelpack took one."""
    stored = identity["warm_frames"]
    return bool(warm_frames <= 1 if stored is None else stored == warm_frames)


def _file(source: Source) -> SourceFile:
    return SourceFile(uri=source.uri, path=source.address, size_bytes=source.size_bytes, version=source.version)


def _bytes(file: SourceFile) -> int:
    return max(1, file.size_bytes)


def _forget_found(
    run: CurateRun,
    rows: Sequence[Mapping[str, Any]],
    inputs: Sequence[str],
    unlisted: Collection[str],
    named: Collection[str],
) -> None:
    """Inputs that named nothing or could not be listed, and now can, or are named no longer: they are no files, so no
    row takes the place of theirs."""
    insides = tuple(f"{text.rstrip('/')}{mark}" for text in inputs for mark in ("/", ", line "))
    found = [
        row["uri"]
        for row in rows
        if (row["outcome"], row["version"]) == ("failed", NOWHERE)
        and row["uri"] not in unlisted
        and (row["uri"] in named or row["uri"].startswith(insides))
    ]
    keys = ScanKeys(run.config.scan)
    run.dataset.failures.discard([(uri, ScanStage.step, keys.of(uri)) for uri in found])
    run.dataset.videos.discard([(uri, keys.of(uri)) for uri in found])


def _fail_videos(
    run: CurateRun, failures: Sequence[Failure], by_uri: Mapping[str, Source], scanned: Collection[str]
) -> None:
    """Record failures. A file that was scanned before and is out of reach now keeps its row, and so its clips."""
    keys, by_key = ScanKeys(run.config.scan), defaultdict[str, list[Failure]](list)
    failures = [_with_place(failure, by_uri[failure.subject].where) for failure in failures]
    for failure in failures:
        by_key[keys.of(failure.subject)].append(failure)
    for key, of_key in sorted(by_key.items()):
        run.fail(of_key, key)
    run.dataset.videos.publish(
        failed_video_row(
            failure, by_uri[failure.subject].version, keys.of(failure.subject), by_uri[failure.subject].size_bytes
        )
        for failure in failures
        if not (failure.retryable and failure.subject in scanned)
    )


def _with_place(failure: Failure, where: str) -> Failure:
    return replace(failure, detail=f"{where}: {failure.detail}") if where else failure


def _forget_failures(run: CurateRun, sources: Sequence[Source]) -> None:
    """Failures of files that are scanned as they are now: they were out of reach and are back, or went well later."""
    keys, step = ScanKeys(run.config.scan), ScanStage.step
    now = {(source.uri, source.version) for source in sources}
    well = {
        row["uri"]
        for row in current_videos(run.dataset, run.config.scan, ["outcome", "version"]).to_pylist()
        if row["outcome"] == "ok" and (row["uri"], row["version"]) in now
    }
    failed = {uri for key in {*map(keys.of, well)} for uri in run.failed_subjects(step, key)}
    run.dataset.failures.discard([(uri, step, keys.of(uri)) for uri in sorted(well & failed)])


def _nowhere(uri: str) -> Source:
    return Source(uri=uri, size_bytes=0, version=NOWHERE)
