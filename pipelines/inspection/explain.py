"""Everything that is known about one clip, and why it was decided as it was. Reads the tables only."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.columns import CAPTION_SCORES, FACTS, SIGNAL_COLUMNS
from curate.dataset.dataset import Dataset
from curate.dataset.layout import Layout
from curate.dataset.scans import current_videos, ids_of_file
from curate.dataset.sources import of_current
from curate.dataset.table import rows_with
from curate.rules import Rule
from curate.select import absolute
from curate.storage.inside import file_uri
from curate.verdict import Verdict, rule_for, verdict
from pipelines.dataset import config_of
from pipelines.inputs.sources import named
from pipelines.inspection.failures import standing_failures
from pipelines.inspection.status import clips_now
from pipelines.takedown.named import is_of

NUM_NEAREST = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """One stored value and the rule that judges it; `family` names the scorer, its parameters and weights.

    `rule` is None where the policy has none, or where it is not for clips of this kind. Its bounds are absolute;
    `relative` has those that the policy gives as percentiles or standard deviations.
    """

    name: str
    value: Any
    rule: Rule | None
    relative: Mapping[str, float]
    family: str

    @property
    def margin(self) -> float | None:
        """Distance from the value to the nearest bound; negative outside. None without a value or a bound."""
        if self.value is None or self.rule is None:
            return None
        below = None if self.rule.min is None else self.value - self.rule.min
        above = None if self.rule.max is None else self.rule.max - self.value
        return min((margin for margin in (below, above) if margin is not None), default=None)

    @property
    def verdict(self) -> Verdict:
        return verdict(self.name, self.value, self.rule)


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """A clip's whole story.

    Attributes:
        clip: Its row of `clips.parquet`.
        video: The row of tables/videos of the file that it is read from.
        uris: All files with these bytes.
        place: Its number among the clips of its video, from 1, and how many there are.
        measures: Every stored number, with the policy's bounds.
        group: Rows of `clips.parquet` of its duplicate group, itself among them; empty if it has no copies.
        own: The user's own columns.
        shard: Its row of tables/shards under the current settings; None if it is not cut.
        captions: Its caption records: the review's, the current captioner's, and of the user's own text.
        caption_note: What a reader of their texts must know; None: nothing.
        latents: Fingerprint → its rows of the latents' index, one per window.
        failures: Rows of tables/failures that still stand, of the clip and of its files.
    """

    clip: Mapping[str, Any]
    video: Mapping[str, Any]
    uris: tuple[str, ...]
    place: tuple[int, int]
    measures: tuple[Measure, ...]
    group: tuple[Mapping[str, Any], ...]
    own: Mapping[str, Any]
    shard: Mapping[str, Any] | None
    captions: tuple[Mapping[str, Any], ...]
    caption_note: str | None
    latents: Mapping[str, Sequence[Mapping[str, Any]]]
    failures: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class FileStory:
    """An input file: its row of tables/videos, the kind of its shot detector, and the rows of `clips.parquet` of its
    clips."""

    video: Mapping[str, Any]
    detector: str
    clips: tuple[Mapping[str, Any], ...]


def explain(url: str, clip_id: str) -> Explanation:
    """Collect what the tables say of a clip.

    Args:
        url: the dataset directory.
        clip_id: its id, or a beginning of it that no other clip has.

    Raises:
        ValueError: no clip, or several, have an id that begins so.
    """
    dataset = Dataset(url)
    everything = cache(lambda: clips_now(dataset))
    found = _of_video(dataset, clip_id.lower())
    clips = everything() if found is None else found
    clip = find_clip(clips, clip_id, url)
    name, rows = clip["clip_id"], clips.filter(pc.equal(clips["video_id"], clip["video_id"])).to_pylist()
    config = config_of(dataset, or_running=True)
    videos = {row["uri"]: row for row in _videos(dataset, clip["video_id"])}
    siblings = [row["clip_id"] for row in _clips_of_file(dataset, videos[clip["video_uri"]], rows)]
    cut = dataset.shards.of(name)
    cut = cut.filter(pc.equal(cut["cut_key"], config.shards.key))
    families = [of_current(dataset.captions(family).of(name), cut) for family in dataset.current_captions]
    records = [record for family in families for record in family.to_pylist()]
    return Explanation(
        clip=clip,
        video=videos[clip["video_uri"]],
        uris=tuple(sorted(videos)),
        place=(siblings.index(name) + 1, len(siblings)),
        measures=tuple(_measures(dataset, clip, everything)),
        group=tuple(_group(dataset, clip, everything)),
        own={column: clip[column] for column in dataset.sidecar_names()},
        shard=next(iter(cut.to_pylist()), None),
        captions=tuple(records),
        caption_note=dataset.caption_note,
        latents=_latents(dataset, name, cut),
        failures=tuple(standing_failures(dataset, {name, *videos})),
    )


def _of_video(dataset: Dataset, beginning: str) -> pa.Table | None:
    """Rows of `clips.parquet` of the bytes that have the one clip whose id begins so. None: there is none, or several,
    or a run is under way."""
    if dataset.is_running:
        return None
    known = dataset.clips.between(beginning, f"{beginning}~", ["video_id"])
    if pc.count_distinct(known["clip_id"]).as_py() != 1:
        return None
    uris = [row["uri"] for row in _videos(dataset, known["video_id"][0].as_py())]
    found = [rows_with(dataset.layout.clips, "video_uri", uri) for uri in uris]
    rows = pa.concat_tables([table for table in found if table is not None]) if uris else None
    is_there = rows is not None and known["clip_id"][0].as_py() in rows["clip_id"].to_pylist()
    return rows if is_there else None


def _group(dataset: Dataset, clip: Mapping[str, Any], everything: Callable[[], pa.Table]) -> list[dict[str, Any]]:
    """Rows of `clips.parquet` of a clip's duplicate group."""
    group = clip["duplicate_group"]
    if group is None:
        return []
    of_group = None if dataset.is_running else rows_with(dataset.layout.clips, "duplicate_group", group)
    if of_group is None:
        of_group = everything().filter(pc.equal(everything()["duplicate_group"], group))
    return list(of_group.to_pylist())


def files_named(url: str, path: str) -> list[FileStory]:
    """The input files that are called so, and the stretches of them: by URI, by a path from the current folder, or by
    the end of it.

    Raises:
        ValueError: nothing was curated into `url`.
    """
    dataset = Dataset(url)
    detectors = config_of(dataset, or_running=True).scan.detectors
    ending = f"/{path.removeprefix('./')}"
    found = [
        row
        for row in _videos(dataset)
        if any(uri in (path, named(path)) or uri.endswith(ending) for uri in (row["uri"], file_uri(row["uri"])))
    ]
    clips = clips_now(dataset).to_pylist() if found else []
    return [
        FileStory(
            video=video,
            detector=detectors.config_of(video["uri"]).kind,
            clips=_clips_of_file(dataset, video, clips),
        )
        for video in found
    ]


def forgotten(url: str, name: str) -> str | None:
    """What is known of a file, video or clip that was taken down; None of any other."""
    found = [row for row in Dataset(url).forgotten.rows() if is_of(row, name)]
    why = next((f": {row['reason']}" for row in found if row["reason"]), "")
    return f"{', '.join(row['uri'] for row in found)}: forgotten, {found[0]['at']}{why}" if found else None


def _videos(dataset: Dataset, video_id: str | None = None) -> list[dict[str, Any]]:
    """The input files; those with these bytes alone."""
    videos = current_videos(dataset, config_of(dataset, or_running=True).scan)
    if video_id is not None:
        videos = videos.filter(pc.equal(videos["video_id"], video_id))
    return list(videos.to_pylist())


def _clips_of_file(
    dataset: Dataset, video: Mapping[str, Any], clips: Sequence[dict[str, Any]]
) -> tuple[dict[str, Any], ...]:
    """Those of the clips that the scan of a file gave, in order of time."""
    of_bytes = [clip for clip in clips if clip["video_id"] == video["video_id"]]
    if any(clip["video_uri"] != video["uri"] for clip in of_bytes):  # two files of equal bytes, or two detectors
        ids = ids_of_file(dataset, video)
        of_bytes = [clip for clip in of_bytes if clip["clip_id"] in ids]
    return tuple(sorted(of_bytes, key=lambda clip: clip["start_s"]))


def time_code(seconds: float) -> str:
    """`HH:MM:SS.mmm`."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}.{milliseconds:03d}"


def _measures(dataset: Dataset, clip: Mapping[str, Any], everything: Callable[[], pa.Table]) -> Sequence[Measure]:
    given = config_of(dataset, or_running=True).select.rules
    rules = absolute(given, everything()) if any(rule.relative for rule in given.values()) else dict(given)
    families = dataset.families(or_running=True).items()
    own = [name for name in dataset.sidecar_names() if name in rules]
    source = dict.fromkeys([*FACTS, *SIGNAL_COLUMNS], "scan") | {
        column: family for family, columns in families for column in columns
    }
    source |= dict.fromkeys(CAPTION_SCORES, dataset.caption_family or "no caption") | dict.fromkeys(own, "sidecar")
    measures = []
    for name in [*source, *(rules.keys() - source.keys())]:
        if name in clip or name in rules:  # vectors are in no clip's row
            rule = rule_for(name, rules.get(name), is_image=clip["kind"] == "image")
            family = source.get(name, "scan" if name in clip else "no scorer")
            relative = given[name].relative if rule else {}
            measures.append(Measure(name=name, value=clip.get(name), rule=rule, relative=relative, family=family))
    return measures


def _latents(dataset: Dataset, clip_id: str, cut: pa.Table) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for fingerprint in dataset.fingerprints("latents"):
        index = rows_with(dataset.layout.encoded("latents", fingerprint).index, "clip_id", clip_id)
        if index is not None:
            rows = of_current(index, cut)
            if rows.num_rows:
                found[fingerprint] = rows.to_pylist()
    return found


def find_clip(clips: pa.Table, clip_id: str, url: str) -> dict[str, Any]:
    """The row of the clip whose id begins so.

    Raises:
        ValueError: no clip has such an id, or several.
    """
    found = with_beginning(clips, clip_id)
    if found.num_rows == 1:
        row: dict[str, Any] = found.to_pylist()[0]
        return row
    if found.num_rows:
        some = ", ".join(name[: len(clip_id) + 6] + "…" for name in found["clip_id"][:NUM_NEAREST].to_pylist())
        raise ValueError(f"{clip_id!r} is the beginning of {found.num_rows} clip ids ({some}); give more of it")
    beginnings = {name[: len(clip_id)]: name for name in clips["clip_id"].to_pylist()}
    near = [beginnings[found] for found in difflib.get_close_matches(clip_id.lower(), beginnings, NUM_NEAREST, 0.5)]
    hint = f"; the nearest are {', '.join(near)}" if near else f"; {Layout(url).clips} lists all {clips.num_rows}"
    raise ValueError(f"no clip of {url} has an id that begins with {clip_id}, and no input file is called so{hint}")


def with_beginning(clips: pa.Table, clip_id: str) -> pa.Table:
    """The clips whose ids begin so."""
    return clips.filter(pc.starts_with(clips["clip_id"], clip_id.lower()))
