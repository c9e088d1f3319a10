"""Which file a clip is read from: one that still has the bytes that were scanned."""

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.scans import current_videos
from curate.media.members import is_version_of
from curate.schema import Clip, Failure, FailureKind
from curate.storage.inside import container_uri
from curate.storage.place import locate
from pipelines.inputs.sources import version_now
from pipelines.steps.run import CurateRun

NUM_LOOKS = 16
"""Files that are looked at at the same time: on an object store each of them is one request that waits."""


def with_originals(run: CurateRun, clips: Sequence[Clip], step: str) -> tuple[list[Clip], list[Failure]]:
    """The clips, each to be read from a file with the bytes that were scanned, and a failure for each that has none.

    A file that this run listed has them: the scan has just seen to that. Where no copy is among those, one will do
    that has now the version that it had when it was scanned.

    Args:
        run: the dataset and what was listed.
        clips: of readable inputs.
        step: the step that is about to read them.
    """
    copies = _copies(run, {clip.video_id for clip in clips})
    chosen = {
        video_id: next((row for row in rows if run.listed.get(row["uri"]) == row["version"]), None)
        for video_id, rows in copies.items()
    }
    elsewhere = [row for video_id, found in chosen.items() if found is None for row in copies[video_id]]
    for row in elsewhere:
        locate(container_uri(row["uri"]))  # imports the filesystem: threads must not
    with ThreadPoolExecutor(NUM_LOOKS) as pool:
        versions = pool.map(version_now, (container_uri(row["uri"]) for row in elsewhere))
    for row, version in zip(elsewhere, versions, strict=True):
        if version is not None and (version == row["version"] or is_version_of(row["version"], version)):
            chosen[row["video_id"]] = chosen[row["video_id"]] or row
    readable = [
        replace(clip, video_uri=original["uri"], video_version=original["version"])
        for clip in clips
        if (original := chosen[clip.video_id]) is not None
    ]
    lost = [
        Failure(
            subject=clip.clip_id,
            step=step,
            kind=FailureKind.MISSING,
            detail=f"{clip.video_uri} is gone or has other bytes than when it was scanned; curate its video again",
        )
        for clip in clips
        if chosen[clip.video_id] is None
    ]
    return readable, lost


def _copies(run: CurateRun, video_ids: set[str]) -> dict[str, list[dict[str, Any]]]:
    """Video → the URIs that its bytes were scanned at, in order, with their versions then."""
    videos = current_videos(run.dataset, run.config.scan, ["outcome", "video_id", "version"])
    wanted = pc.is_in(videos["video_id"], pa.array(sorted(video_ids), pa.string()))
    copies: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in videos.filter(pc.and_(wanted, pc.equal(videos["outcome"], "ok"))).to_pylist():
        copies[row["video_id"]].append(row)
    return copies
