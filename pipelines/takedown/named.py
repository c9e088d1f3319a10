"""Which videos a take-down is of: by URI, by id, by a clip, or by a condition on clips."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.dataset.dataset import Dataset
from curate.dataset.table import left_join, read_parquet
from curate.dataset.where import where
from curate.storage.inside import container_uri, file_uri
from pipelines.inputs.sources import named

MIN_BEGINNING = 8
"""Characters of an id that name it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A video: the bytes, and every URI that they are known at.

    Attributes:
        video_id: "" for a file that could never be read.
        uris: in order.
        clip_ids: of all scans that the tables have.
    """

    video_id: str
    uris: tuple[str, ...]
    clip_ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Copy:
    """A video that has copies of what is taken down, with some of its clips."""

    video_id: str
    uris: tuple[str, ...]
    clip_ids: tuple[str, ...]


class Videos:
    """The videos of a dataset, as far as its tables go: of all scans, and of runs that were stopped.

    Args:
        dataset: that holds them.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._uris: dict[str, set[str]] = defaultdict(set)
        self.ids_of: dict[str, set[str]] = defaultdict(set)
        """URI → ids of the bytes that were there; none of a file that could never be read."""
        for table in (dataset.videos, dataset.identities):
            rows = table.read(["video_id"])
            for uri, video_id in zip(rows["uri"].to_pylist(), rows["video_id"].to_pylist(), strict=True):
                self.ids_of[uri] |= {video_id} if video_id else set()
                if video_id:
                    self._uris[video_id].add(uri)
        clips = dataset.clips.read(["video_id"])
        self.video_of: dict[str, str] = dict(
            zip(clips["clip_id"].to_pylist(), clips["video_id"].to_pylist(), strict=True)
        )
        """Clip id → id of its video."""
        self._clips: dict[str, set[str]] = defaultdict(set)
        for clip_id, video_id in self.video_of.items():
            self._clips[video_id].add(clip_id)

    def target(self, video_id: str) -> Target:
        return Target(
            video_id=video_id,
            uris=tuple(sorted(self._uris[video_id])),
            clip_ids=tuple(sorted(self._clips[video_id])),
        )

    def named(self, name: str) -> list[Target]:
        """The videos that a name means; none where it is of no video, file or clip.

        Args:
            name: a URI, a path from the current folder or the end of one; a file with its members or stretches; an
                id of a video or of a clip, or a beginning of it.

        Raises:
            ValueError: it means several.
        """
        if uris := self._files(name):
            found = [self.target(video_id) for uri in uris for video_id in sorted(self.ids_of[uri])]
            unread = [Target(video_id="", uris=(uri,), clip_ids=()) for uri in uris if not self.ids_of[uri]]
            return list(dict.fromkeys([*found, *unread]))
        if len(name) < MIN_BEGINNING:
            return []
        ids = {video_id for video_id in self._uris if video_id.startswith(name.lower())}
        ids |= {video_id for clip_id, video_id in self.video_of.items() if clip_id.startswith(name.lower())}
        if len(ids) > 1:
            raise ValueError(f"{name} is the beginning of ids of {len(ids)} videos; give more of it")
        return [self.target(video_id) for video_id in ids]

    def _files(self, name: str) -> list[str]:
        texts = {name, named(name)}
        for part in (lambda uri: uri, file_uri, container_uri):
            if found := sorted(uri for uri in self.ids_of if part(uri) in texts):
                return found
        ending = f"/{name.removeprefix('./')}"
        found = sorted(uri for uri in self.ids_of if file_uri(uri).endswith(ending))
        if len(files := sorted({file_uri(uri) for uri in found})) > 1:
            raise ValueError(
                f"{name} is the end of {len(files)} URIs, such as {files[0]} and {files[1]}; give more of it"
            )
        return found

    def that_meet(self, condition: str) -> list[Target]:
        """The videos with a clip that meets a condition of SQL on the columns of `clips.parquet` and of the index.

        Raises:
            ValueError: it is no such condition, or nothing was decided yet.
        """
        clips, index = self._dataset.read_clips(), self._dataset.read_index()
        further = ["clip_id", *(name for name in index.column_names if name not in clips.column_names)]
        met = where(left_join(clips, index.select(further), "clip_id"), condition)
        return [self.target(video_id) for video_id in sorted(set(met["video_id"].to_pylist()))]

    def copies(self, targets: Sequence[Target]) -> list[Copy]:
        """Other videos with clips that are duplicates of clips of these, as the last decision found them."""
        decided = read_parquet(self._dataset.layout.clips, ["clip_id", "video_id", "duplicate_group"])
        if decided is None:
            return []
        gone = {target.video_id for target in targets}
        of_these = pc.is_in(decided["video_id"], pa.array(sorted(gone), pa.string()))
        groups = decided.filter(of_these)["duplicate_group"].drop_null()
        copies_elsewhere = pc.and_(pc.invert(of_these), pc.is_in(decided["duplicate_group"], groups.combine_chunks()))
        found: dict[str, list[str]] = defaultdict(list)
        for row in decided.filter(copies_elsewhere).to_pylist():
            found[row["video_id"]].append(row["clip_id"])
        return [
            Copy(video_id=video_id, uris=self.target(video_id).uris, clip_ids=tuple(clip_ids))
            for video_id, clip_ids in sorted(found.items())
        ]

    def with_copies(self, targets: Sequence[Target]) -> list[Target]:
        """These videos, those that have copies of them, those that have copies of these, and so on."""
        found = {target.video_id or target.uris: target for target in targets}
        while copies := self.copies(list(found.values())):
            found |= {copy.video_id: self.target(copy.video_id) for copy in copies}
        return list(found.values())


def targets_of(rows: Collection[Mapping[str, Any]]) -> list[Target]:
    """The videos of tombstones."""
    of_video: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        of_video[row["video_id"] or row["uri"]].append(row)
    return [
        Target(
            video_id=some[0]["video_id"],
            uris=tuple(sorted(row["uri"] for row in some)),
            clip_ids=tuple(sorted({name for row in some for name in row["clip_ids"]})),
        )
        for some in of_video.values()
    ]


def is_of(tombstone: Mapping[str, Any], name: str) -> bool:
    """Whether a tombstone is of what a user names, as `Videos.named` takes it."""
    uri = tombstone["uri"]
    if {uri, file_uri(uri), container_uri(uri)} & {name, named(name)} or file_uri(uri).endswith(f"/{name}"):
        return True
    ids = [tombstone["video_id"], *tombstone["clip_ids"]]
    return len(name) >= MIN_BEGINNING and any(one.startswith(name.lower()) for one in ids)
