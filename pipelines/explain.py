"""Everything that is known about one clip, and why it was decided as it was. Reads the tables only."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipelines.dataset import Dataset
from pipelines.status import standing_failures

NUM_NEAREST = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """One stored value beside the rule that judges it; `family` names the scorer, its parameters and weights."""

    name: str
    value: float | None
    min: float | None
    max: float | None
    family: str

    @property
    def verdict(self) -> Literal["passes", "fails", "missing", ""]:
        if self.min is None and self.max is None:
            return ""
        if self.value is None:
            return "missing"
        below = self.min is not None and self.value < self.min
        above = self.max is not None and self.value > self.max
        return "fails" if below or above else "passes"


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """A clip's whole story.

    Attributes:
        clip: Its row of `clips.parquet`.
        video: The first row of tables/videos with its bytes.
        uris: All files with these bytes.
        measures: Every stored number.
        copies: Rows of the other members of its duplicate group.
        shard: Its row of tables/shards under the current settings; None if it is not cut.
        captions: Its caption records.
        failures: Its rows of tables/failures that still stand.
    """

    clip: Mapping[str, Any]
    video: Mapping[str, Any]
    uris: tuple[str, ...]
    measures: tuple[Measure, ...]
    copies: tuple[Mapping[str, Any], ...]
    shard: Mapping[str, Any] | None
    captions: tuple[Mapping[str, Any], ...]
    failures: tuple[Mapping[str, Any], ...]


def explain(url: str, clip_id: str) -> Explanation:
    """Collect what the tables say of a clip.

    Args:
        url: the dataset directory.
        clip_id: its id, or the beginning of it, as far as no other clip has it.

    Raises:
        ValueError: no clip, or several, have an id that begins so.
    """
    dataset = Dataset(url)
    rows = dataset.read("clips.parquet").to_pylist()
    clip = _find(rows, clip_id, url)
    name = clip["clip_id"]
    config, families = dataset.config(), dataset.families()
    videos = [row for row in dataset.videos.rows() if row["video_id"] == clip["video_id"]]
    source = {column: family for family, columns in families.items() for column in columns}
    measures = []
    for column, value in clip.items():
        if isinstance(value, float) or column in source:
            bounds = config.select.rules().get(column)
            measures.append(
                Measure(
                    name=column,
                    value=value,
                    min=bounds.min if bounds else None,
                    max=bounds.max if bounds else None,
                    family=source.get(column, "scan"),
                )
            )
    shards = [row for row in dataset.shards.rows() if row["clip_id"] == name]
    captions = dataset.sections().get("caption_family")
    group = clip.get("duplicate_group")
    return Explanation(
        clip=clip,
        video=videos[0],
        uris=tuple(sorted({row["uri"] for row in videos})),
        measures=tuple(measures),
        copies=tuple(row for row in rows if group and row["duplicate_group"] == group and row["clip_id"] != name),
        shard=next((row for row in shards if row["cut_key"] == config.shards.key), None),
        captions=tuple(row for row in dataset.captions(captions).rows() if row["clip_id"] == name) if captions else (),
        failures=tuple(row for row in standing_failures(dataset) if row["subject"] == name),
    )


def clips_of_file(url: str, path: str) -> list[dict[str, Any]]:
    """Rows of the clips of one input file, given by its URI or the end of it; none if no file is called so."""
    dataset = Dataset(url)
    ids = {
        row["video_id"]
        for row in dataset.videos.rows()
        if row["uri"] == path or row["uri"].endswith(f"/{path.lstrip('./')}")
    }
    return [row for row in dataset.read("clips.parquet").to_pylist() if row["video_id"] in ids - {None}]


def time_code(seconds: float) -> str:
    """`HH:MM:SS.mmm`."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}.{milliseconds:03d}"


def _find(rows: list[dict[str, Any]], clip_id: str, url: str) -> dict[str, Any]:
    found = [row for row in rows if row["clip_id"].startswith(clip_id.lower())]
    if len(found) == 1:
        return found[0]
    if found:
        some = ", ".join(row["clip_id"][: len(clip_id) + 6] + "…" for row in found[:NUM_NEAREST])
        raise ValueError(f"{clip_id} is the beginning of {len(found)} clip ids ({some}); give more of it")
    near = difflib.get_close_matches(clip_id, [row["clip_id"] for row in rows], n=NUM_NEAREST, cutoff=0.4)
    hint = f"; the nearest are {', '.join(near)}" if near else f"; {url}/clips.parquet lists all {len(rows)}"
    raise ValueError(f"no clip of {url} has an id that begins with {clip_id}, and no input file is called so{hint}")
