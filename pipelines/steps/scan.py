"""Step: input files → video rows and clip rows. Equal bytes at two URIs are scanned once, long files in parts."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from curate.dataset.rows import clip_row, failed_video_row, identified_of, identity_row, video_row
from curate.media.counter import STILL_S
from curate.media.fetch import Staged
from curate.media.parts import WHOLE, Part
from curate.scan import Identified, IdentifyStage, ScanStage, SourceFile, assemble
from curate.scanned import Scanned
from curate.schema import Failure
from pipelines.console.progress import BYTES, SECONDS, console
from pipelines.execute.base import Executor, Resources
from pipelines.execute.work import Results, failures_of
from pipelines.inputs.sources import Source
from pipelines.steps.run import CurateRun

NOWHERE = ""
"""The version of what is no file."""


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
        inputs: all inputs of this run, as they are named from any folder.
        named_before: those of the runs before.
    """
    key, dataset = run.config.scan.key, run.dataset
    rows = [row for row in dataset.videos.rows() if row["scan_key"] == key]
    _forget_found(run, rows, inputs, {failure.subject for failure in unlisted}, {*inputs, *named_before})
    known = {(row["uri"], row["version"]) for row in rows if run.is_done(row["failure"])}
    by_uri = {source.uri: source for source in sources}
    new = [source for source in sources if (source.uri, source.version) not in known]
    scanned = {row["uri"] for row in rows if row["outcome"] == "ok"}
    _fail_videos(run, unlisted, {failure.subject: _nowhere(failure.subject) for failure in unlisted}, scanned)
    copies, identified = _identify(run, executor, new, by_uri, scanned)
    done = {row["video_id"]: row for row in rows if row["outcome"] == "ok"}
    dataset.videos.publish(
        {**done[video_id], "uri": uri, "version": by_uri[uri].version}
        for video_id in sorted(copies.keys() & done.keys())
        for uri in copies[video_id]
    )
    todo = [
        replace(_file(by_uri[uris[0]]), video_id=video_id)
        for video_id, uris in sorted(copies.items())
        if video_id not in done
    ]
    for outcomes in _scanned(run, executor, todo, identified):
        scans = [outcome for _, outcome in outcomes if isinstance(outcome, Scanned)]
        # Clips first: a video row says that its clips are there.
        dataset.clips.publish(clip_row(clip, key) for scan in scans for clip in scan.clips)
        dataset.videos.publish(
            {**video_row(scan.video, by_uri[uri].version, key), "uri": uri}
            for scan in scans
            for uri in copies[scan.video.video_id]
        )
        failed = [
            replace(outcome, subject=uri, detail=outcome.detail.replace(file.uri, uri))
            for file, outcome in outcomes
            if isinstance(outcome, Failure)
            for uri in copies[str(file.video_id)]
        ]
        _fail_videos(run, failed, by_uri, scanned)
        run.num_frames_decoded += sum(scan.num_decoded_frames for scan in scans)
        for found in scans:
            for note in found.video.notes:
                console.print(f"{found.video.uri}: {note}", markup=False)
    _forget_failures(run, sources)


def _scanned(
    run: CurateRun, executor: Executor, files: Sequence[SourceFile], identified: Mapping[str, Identified]
) -> Iterator[Results]:
    """Whole files with their outcomes. A file whose parts do not fit together is scanned again, as a whole."""
    scanner = ScanStage(run.config.scan)
    stage, resources = Staged(scanner, run.config.execute.staging), Resources()
    if scanner.uses_gpu:
        resources = Resources(num_gpus=run.config.execute.gpus_per_worker)
    items = [replace(file, part=part) for file in files for part in identified[str(file.video_id)].parts]
    measured: dict[str, dict[Part, Any]] = {}
    again: list[SourceFile] = []

    def seconds(item: SourceFile) -> float:
        known = identified[str(item.video_id)]
        return max(STILL_S, known.declared_s or 0.0) / (1 if item.part == WHOLE else len(known.parts))

    for results in run.work(executor, stage, items, resources, "scan", SECONDS, seconds):
        whole: Results = []
        for item, outcome in results:
            expected = identified[str(item.video_id)].parts
            if len(expected) == 1:
                whole.append((item, outcome))
                continue
            found = measured.setdefault(str(item.video_id), {})
            found[item.part] = outcome
            if len(found) == len(expected):
                file, outcomes = replace(item, part=WHOLE), [found[part] for part in expected]
                del measured[str(item.video_id)]
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
) -> tuple[dict[str, list[str]], dict[str, Identified]]:
    """Content id → URIs that hold it, sorted; content id → the parts that it is scanned in, and their length."""
    table, part_s, warm_frames = run.dataset.identities, run.config.scan.part_s, run.config.scan.warm_frames
    wanted = {source.uri: source.version for source in sources}
    identities = {
        row["uri"]: identified_of(row)
        for row in table.rows()
        if row["uri"] in wanted
        and (row["version"], row["part_s"]) == (wanted[row["uri"]], part_s)
        and (warm_frames <= 1 if row["warm_frames"] is None else row["warm_frames"] == warm_frames)
    }
    files = [_file(source) for source in sources if source.uri not in identities]
    stage = Staged(IdentifyStage(run.config.scan), run.config.execute.staging)
    for results in run.work(executor, stage, files, Resources(), "identify", BYTES, _bytes):
        _fail_videos(run, failures_of(results), by_uri, scanned)
        found = {file.uri: outcome for file, outcome in results if isinstance(outcome, Identified)}
        table.publish(
            identity_row(uri, by_uri[uri].version, outcome, part_s, warm_frames) for uri, outcome in found.items()
        )
        identities |= found
    copies: dict[str, list[str]] = {}
    for uri, identified in sorted(identities.items()):
        copies.setdefault(identified.video_id, []).append(uri)
    return copies, {identified.video_id: identified for identified in identities.values()}


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
    folders = [f"{text.rstrip('/')}/" for text in inputs]
    found = [
        row["uri"]
        for row in rows
        if (row["outcome"], row["version"]) == ("failed", NOWHERE)
        and row["uri"] not in unlisted
        and (row["uri"] in named or any(row["uri"].startswith(folder) for folder in folders))
    ]
    key = run.config.scan.key
    run.dataset.failures.discard([(uri, ScanStage.step, key) for uri in found])
    run.dataset.videos.discard([(uri, key) for uri in found])


def _fail_videos(
    run: CurateRun, failures: Sequence[Failure], by_uri: Mapping[str, Source], scanned: Collection[str]
) -> None:
    """Record failures. A file that was scanned before and is out of reach now keeps its row, and so its clips."""
    key = run.config.scan.key
    run.fail(failures, key)
    run.dataset.videos.publish(
        failed_video_row(failure, by_uri[failure.subject].version, key, by_uri[failure.subject].size_bytes)
        for failure in failures
        if not (failure.retryable and failure.subject in scanned)
    )


def _forget_failures(run: CurateRun, sources: Sequence[Source]) -> None:
    """Failures of files that are scanned as they are now: they were out of reach and are back, or went well later."""
    key, step = run.config.scan.key, ScanStage.step
    now = {(source.uri, source.version) for source in sources}
    well = {
        row["uri"]
        for row in run.dataset.videos.rows()
        if row["scan_key"] == key and row["outcome"] == "ok" and (row["uri"], row["version"]) in now
    }
    run.dataset.failures.discard([(uri, step, key) for uri in sorted(well & run.failed_subjects(step, key))])


def _nowhere(uri: str) -> Source:
    return Source(uri=uri, size_bytes=0, version=NOWHERE)
