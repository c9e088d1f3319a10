"""What the index would lose because of failures alone: files out of reach, a scorer that fails. Not without a word."""

import shlex
from collections import Counter
from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.dataset import Dataset
from curate.dataset.scans import KnownKeys
from curate.dataset.table import open_parquet, tables_of
from curate.scan import ScanConfig


class Losses:
    """Compares the decisions that are about to be published, table by table, with the index as it is.

    Args:
        dataset: has the index, and `clips.parquet` as it was.
        scan: the current settings.
    """

    def __init__(self, dataset: Dataset, scan: ScanConfig) -> None:
        self._dataset, self._is_decided = dataset, dataset.is_decided()
        self._gone = self._of_failed_files(scan) if self._is_decided else set()
        self._failed: dict[str, tuple[str, str | None]] = {}
        self._kept: set[str] = set()

    def watch(self, decided: pa.Table) -> None:
        """Note what the next rows of the new `clips.parquet` keep and do not keep."""
        if not self._is_decided:
            return
        failed = decided.filter(pc.equal(decided["decision"], "failed"))
        rows = failed.select(["clip_id", "reasons", "duplicate_group"]).to_pylist()
        self._failed |= {row["clip_id"]: (row["reasons"][0], row["duplicate_group"]) for row in rows}
        kept = decided["duplicate_group"].filter(pc.equal(decided["decision"], "keep"))
        self._kept.update(pc.unique(kept.drop_null()).to_pylist())
        if self._gone:
            self._gone -= set(decided["clip_id"].to_pylist())

    def found(self) -> dict[str, str]:
        """Clips of the index that the new decisions do not keep because something failed → the step that did, or the
        score that is missing."""
        lost = {name: reason for name, (reason, group) in self._failed.items() if group not in self._kept}
        lost |= dict.fromkeys(self._gone, "scan")
        return {name: lost[name] for name in self._indexed(lost)} if lost else {}

    def refuse(self) -> None:
        """Called after all rows.

        Raises:
            ValueError: clips would leave the index because they, or their files, failed; names the steps and what to
                do.
        """
        if not (lost := self.found()):
            return
        steps = ", ".join(f"{count} by {step}" for step, count in sorted(Counter(lost.values()).items()))
        url = shlex.quote(self._dataset.url)
        raise ValueError(
            f"{self._dataset.url}: {len(lost)} clips would leave the index because of failures alone ({steps}), "
            f"such as {min(lost)}; `reelpack status {url}` lists the failures. clips.parquet and the index stay as "
            "they were: put right what failed and run this again, or pass --drop-failed to let these clips go"
        )

    def _indexed(self, names: Collection[str]) -> list[str]:
        wanted, index = pa.array(list(names), pa.string()), open_parquet(self._dataset.layout.index)
        assert index is not None, "the dataset is decided"
        of_parts = (part["clip_id"] for part in tables_of(index, ["clip_id"]))
        return [name for ids in of_parts for name in ids.filter(pc.is_in(ids, wanted)).to_pylist()]

    def _of_failed_files(self, scan: ScanConfig) -> set[str]:
        """Clips of files that failed, or of folders that did."""
        failures = self._dataset.failures.read([])
        failures = failures.filter(pc.equal(failures["step"], "scan")).to_pylist()
        if not failures:
            return set()
        keys = KnownKeys(scan, self._dataset.videos.read([]))
        failed = [row["subject"] for row in failures if row["key"] == keys.of(row["subject"])]
        files, folders = set(failed), tuple(f"{subject}/" for subject in failed)
        before = open_parquet(self._dataset.layout.clips)
        assert before is not None, "the dataset is decided"
        return {
            name
            for part in tables_of(before, ["clip_id", "video_uri"])
            for name, uri in zip(*(column.to_pylist() for column in part.columns), strict=True)
            if uri in files or uri.startswith(folders)
        }
