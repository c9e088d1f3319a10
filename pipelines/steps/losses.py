"""What the index would lose because of failures alone: files out of reach, a scorer that fails. Not without a word."""

import shlex
from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.dataset import Dataset
from curate.dataset.scans import KnownKeys
from curate.scan import ScanConfig

COLUMNS = ["clip_id", "decision", "reasons", "duplicate_group"]


def refuse_losses(dataset: Dataset, decided: pa.Table, scan: ScanConfig) -> None:
    """Compare the decisions that are about to be published with the index as it is.

    Args:
        dataset: has the index, and `clips.parquet` as it was.
        decided: the rows of the new `clips.parquet`.
        scan: the current settings.

    Raises:
        ValueError: clips would leave the index because they, or their files, failed; names the steps and what to do.
    """
    lost = losses(dataset, decided, scan)
    if not lost:
        return
    steps = ", ".join(f"{count} by {step}" for step, count in sorted(Counter(lost.values()).items()))
    url = shlex.quote(dataset.url)
    raise ValueError(
        f"{dataset.url}: {len(lost)} clips would leave the index because of failures alone ({steps}), such as "
        f"{min(lost)}; `reelpack status {url}` lists the failures. clips.parquet and the index stay as they were: put "
        "right what failed and run this again, or pass --drop-failed to let these clips go"
    )


def losses(dataset: Dataset, decided: pa.Table, scan: ScanConfig) -> dict[str, str]:
    """Clips of the index that the new decisions do not keep because something failed → the step that did, or the
    score that is missing."""
    if not dataset.is_decided():
        return {}
    indexed = set(dataset.read_index()["clip_id"].to_pylist())
    now = {row["clip_id"]: row for row in decided.select(COLUMNS).to_pylist()}
    groups = {row["duplicate_group"] for row in now.values() if row["decision"] == "keep"} - {None}
    lost = {
        clip_id: row["reasons"][0]
        for clip_id in indexed & now.keys()
        if (row := now[clip_id])["decision"] == "failed" and row["duplicate_group"] not in groups
    }
    return lost | _of_failed_files(dataset, indexed - now.keys(), scan)


def _of_failed_files(dataset: Dataset, gone: set[str], scan: ScanConfig) -> dict[str, str]:
    """Clips that no scanned file has any more, because their file, or a folder above it, failed."""
    if not gone:
        return {}
    keys, rows = KnownKeys(scan, dataset.videos.read([])), dataset.failures.rows()
    failed = [row["subject"] for row in rows if row["step"] == "scan" and row["key"] == keys.of(row["subject"])]
    before = dataset.read_clips().select(["clip_id", "video_uri"])
    before = before.filter(pc.is_in(before["clip_id"], pa.array(sorted(gone), pa.string())))
    files, folders = set(failed), tuple(f"{subject}/" for subject in failed)
    return {
        row["clip_id"]: "scan"
        for row in before.to_pylist()
        if row["video_uri"] in files or row["video_uri"].startswith(folders)
    }
