"""Step: input files → video rows and clip rows. Equal bytes at two URIs are scanned once."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from curate.media.fetch import Staged
from curate.scan import STEP, IdentifyStage, ScanStage, SourceFile
from curate.schema import Failure
from pipelines.execute import Executor, Needs
from pipelines.sources import Source
from pipelines.steps.run import CurateRun
from pipelines.tables import clip_row, failed_video_row, video_row

IDENTIFY_BATCH = 8


def scan(run: CurateRun, on: Executor, sources: Sequence[Source], unlisted: Sequence[Failure]) -> None:
    """Identify, probe and scan the inputs that are new or whose failure is to be tried again.

    Args:
        run: the dataset and its settings.
        on: what runs the stages.
        sources: the files that the inputs name.
        unlisted: inputs that name nothing or cannot be listed.
    """
    key, dataset = run.config.scan.key, run.dataset
    rows = [row for row in dataset.videos.rows() if row["scan_key"] == key]
    known = {(row["uri"], row["version"]) for row in rows if run.is_settled(row["failure"])}
    by_uri = {source.uri: source for source in sources}
    new = [source for source in sources if (source.uri, source.version) not in known]
    _fail_videos(run, unlisted, {failure.subject: _nowhere(failure.subject) for failure in unlisted})
    copies = _identify(run, on, new, by_uri)
    done = {row["video_id"]: row for row in rows if row["outcome"] == "ok"}
    dataset.videos.publish(
        {**done[video_id], "uri": uri, "version": by_uri[uri].version}
        for video_id in sorted(copies.keys() & done.keys())
        for uri in copies[video_id]
    )
    todo = [
        SourceFile(uri=uris[0], path=uris[0], size_bytes=by_uri[uris[0]].size_bytes, video_id=video_id)
        for video_id, uris in sorted(copies.items())
        if video_id not in done
    ]
    for results, failures in run.work(on, Staged(ScanStage(run.config.scan), STEP), todo, Needs(), "scan"):
        scans = [scanned for _, scanned in results]
        # Clips first: a video row says that its clips are there.
        dataset.clips.publish(clip_row(clip, key) for scanned in scans for clip in scanned.clips)
        dataset.videos.publish(
            {**video_row(scanned.video, by_uri[uri].version, key), "uri": uri}
            for scanned in scans
            for uri in copies[scanned.video.video_id]
        )
        same = {uris[0]: uris for uris in copies.values()}
        everywhere = [replace(failure, subject=uri) for failure in failures for uri in same[failure.subject]]
        _fail_videos(run, everywhere, by_uri)
        run.num_frames_decoded += sum(scanned.num_decoded_frames for scanned in scans)


def _identify(
    run: CurateRun, on: Executor, sources: Sequence[Source], by_uri: Mapping[str, Source]
) -> dict[str, list[str]]:
    """Content id → URIs that hold it, sorted."""
    files = [SourceFile(uri=source.uri, path=source.uri, size_bytes=source.size_bytes) for source in sources]
    copies: dict[str, list[str]] = {}
    needs = Needs(batch_size=IDENTIFY_BATCH)
    for results, failures in run.work(on, Staged(IdentifyStage(run.config.scan), STEP), files, needs, "identify"):
        _fail_videos(run, failures, by_uri)
        for file, identified in results:
            copies.setdefault(identified.video_id, []).append(file.uri)
    return {video_id: sorted(uris) for video_id, uris in copies.items()}


def _fail_videos(run: CurateRun, failures: Sequence[Failure], by_uri: Mapping[str, Source]) -> None:
    key = run.config.scan.key
    run.fail(failures, key)
    run.dataset.videos.publish(
        failed_video_row(failure, by_uri[failure.subject].version, key, by_uri[failure.subject].size_bytes)
        for failure in failures
    )


def _nowhere(uri: str) -> Source:
    return Source(uri=uri, size_bytes=0, version="")
