"""Which rows of the tables count: each file's, by the settings of the scan as they are now.

Files of several detectors have several scan keys, and equal bytes at two URIs can have two sets of clips.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.dataset import Dataset
from curate.dataset.rows import clip_of
from curate.dataset.table import left_join
from curate.scan import ScanConfig, ScanKeys
from curate.schema import Clip
from curate.shots.span_lists import MissingList

SCAN = "scan"
"""Column of the tables here: names the bytes and the key that they were scanned under."""


class KnownKeys:
    """Scan keys for commands that read. Where the list of shots that decides is gone, a file has the key of the only
    scan that there is of it.

    Args:
        config: the settings.
        videos: `uri` and `scan_key` of tables/videos.
    """

    def __init__(self, config: ScanConfig, videos: pa.Table) -> None:
        self._keys, self._stored = ScanKeys(config), defaultdict[str, set[str]](set)
        for uri, key in zip(videos["uri"].to_pylist(), videos["scan_key"].to_pylist(), strict=True):
            self._stored[uri].add(key)

    def of(self, uri: str) -> str | None:
        """None: its list is gone, and it was not scanned.

        Raises:
            MissingList: it is gone, and there are several scans of the file.
        """
        try:
            return self._keys.of(uri)
        except MissingList:
            if len(self._stored[uri]) > 1:
                raise
            return next(iter(self._stored[uri]), None)


def current_videos(dataset: Dataset, config: ScanConfig, columns: Sequence[str] | None = None) -> pa.Table:
    """Rows of tables/videos, one per URI, in order of URI.

    Args:
        dataset: that holds them.
        config: the settings.
        columns: those to read with `uri` and `scan_key`; None: all.
    """
    videos = dataset.videos.read(columns)
    keys = KnownKeys(config, videos)
    wanted = pa.array(map(keys.of, videos["uri"].to_pylist()), pa.string())
    return videos.filter(pc.equal(videos["scan_key"], wanted))


class CurrentScans:
    """Which rows of tables/clips count: those of the readable inputs, each clip once.

    `video_uri` is the first URI that has its bytes and its detector; `size_bytes` and `duration_s` are the file's.
    """

    def __init__(self, dataset: Dataset, config: ScanConfig) -> None:
        self.videos = _current_scans(dataset, config)

    def of(self, clips: pa.Table) -> pa.Table:
        """Those of some rows of tables/clips, in order of id.

        Args:
            clips: in order of id, with all rows of each.
        """
        clips = left_join(_with_scan(clips), self.videos, SCAN).drop_columns(["scan_key", SCAN])
        return _once(clips.filter(pc.is_valid(clips["video_uri"])))


def current_clips(dataset: Dataset, config: ScanConfig) -> pa.Table:
    """All rows of `CurrentScans`."""
    return CurrentScans(dataset, config).of(dataset.clips.read())


def clips_of(dataset: Dataset, config: ScanConfig) -> list[Clip]:
    """Every clip of the readable inputs, to be read from the first of equal copies."""
    return [clip_of(row, row["video_uri"]) for row in current_clips(dataset, config).to_pylist()]


def ids_of_file(dataset: Dataset, video: Mapping[str, Any]) -> set[str]:
    """Ids of the clips of a row of tables/videos."""
    clips = dataset.clips.read(["video_id"])
    of_file = pc.and_(pc.equal(clips["video_id"], video["video_id"]), pc.equal(clips["scan_key"], video["scan_key"]))
    return set(clips.filter(of_file)["clip_id"].to_pylist())


def _current_scans(dataset: Dataset, config: ScanConfig) -> pa.Table:
    """One row for each bytes and detector that a readable input has."""
    videos = current_videos(dataset, config, ["outcome", "video_id", "size_bytes", "duration_s"])
    videos = videos.filter(pc.equal(videos["outcome"], "ok"))
    least = [(name, "min") for name in ("uri", "size_bytes", "duration_s")]
    videos = _with_scan(videos).group_by(SCAN).aggregate(least)
    return videos.rename_columns(
        {"uri_min": "video_uri", "size_bytes_min": "size_bytes", "duration_s_min": "duration_s"}
    )


def _with_scan(rows: pa.Table) -> pa.Table:
    return rows.append_column(SCAN, pc.binary_join_element_wise(rows["video_id"], rows["scan_key"], "/"))


def _once(clips: pa.Table) -> pa.Table:
    """Of clips in order of id. Two detectors can give the same clip of equal bytes: that of the first URI counts."""
    ids = clips["clip_id"]
    if clips.num_rows < 2 or not pc.any(pc.equal(ids[1:], ids[:-1])).as_py():
        return clips
    rows = clips.select(["clip_id", "video_uri"]).append_column("row", pa.array(range(clips.num_rows)))
    first = rows.sort_by("video_uri").group_by("clip_id", use_threads=False).aggregate([("row", "first")])
    return clips.take(first["row_first"].sort())
