"""Take-down: videos leave a dataset with all that was made of them. The driver behind `reelpack forget DATASET VIDEO`.

The tombstone is published first: a take-down that was stopped is known as such, and the same command completes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow.compute as pc

from curate.dataset.dataset import Dataset
from curate.dataset.table import read_parquet
from curate.dataset.versions import record_first, recorded
from curate.storage.place import is_url, path_of
from pipelines.dataset import check_cut, config_of
from pipelines.inputs.sources import absolute
from pipelines.steps.decide import decide, read_stored
from pipelines.takedown.named import Copy, Target, Videos, is_of, targets_of
from pipelines.takedown.remove import clear_encoded, clear_reviews, clear_shards, erase_rows, remove_made, unknown
from pipelines.takedown.runs import Trained, runs_of


@dataclass(frozen=True, kw_only=True, slots=True)
class ForgetPlan:
    """What a take-down is of.

    Attributes:
        targets: The videos that go, also those of a take-down that was stopped.
        resumed: URIs of the latter, and of all that went before where no video is named.
        known: Names of those that are gone already, and when they were taken down.
        copies: Videos with copies of them, which stay.
        runs: Trainings that read the dataset: their weights stay as they are.
        num_clips: Clips of the videos, by the last decision.
        num_indexed: Those of them in the index.
    """

    targets: tuple[Target, ...]
    resumed: tuple[str, ...]
    known: tuple[tuple[str, str], ...]
    copies: tuple[Copy, ...]
    runs: tuple[Trained, ...]
    num_clips: int
    num_indexed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ForgetSummary:
    """What was removed.

    Attributes:
        tars: That held some of it, and are gone; the other clips of them are in new ones.
        made: Reports and exports below the dataset that are gone.
        unknown: Entries of the folder that were not looked into.
        num_kept, num_indexed: Clips that the policy keeps now, and those in the index.
        note: Why the rest was not decided again; None: it was.
    """

    tars: tuple[str, ...]
    made: tuple[str, ...]
    unknown: tuple[str, ...]
    num_kept: int
    num_indexed: int
    note: str | None


def plan_forget(
    url: str,
    videos: Sequence[str] = (),
    condition: str | None = None,
    *,
    duplicates: bool = False,
    runs: Sequence[str] = (),
) -> ForgetPlan:
    """Find what a take-down is of; changes nothing.

    Args:
        url: the dataset directory.
        videos: URIs, ends of them, or ids of videos or clips: a clip stands for its video. Without any, and without
            a condition: all that were forgotten before, so that nothing is left of them.
        condition: of SQL on clips, whose videos are meant as well.
        duplicates: also the videos with copies of their clips.
        runs: folders in which trainings lie, besides that of the dataset.

    Raises:
        ValueError: nothing was curated into `url`, or a name is of no video, or of several.
    """
    dataset = Dataset(url)
    dataset.made_with(or_running=True)
    found, stones = Videos(dataset), dataset.forgotten.rows()
    unfinished = [row for row in stones if not row["is_done"]]
    again = unfinished if videos or condition is not None else stones
    targets, known = [], []
    for name in videos:
        of_name = found.named(name)
        earlier = [row for row in stones if is_of(row, name)]
        if not of_name and not earlier:
            raise ValueError(
                f"{name}: no video of {url} has this URI or id, and no clip; `reelpack explain {url} FILE` shows what "
                "is known of a file"
            )
        targets += of_name
        known += [(name, row["at"]) for row in earlier if row["is_done"] and not of_name][:1]
    if condition is not None and (dataset.is_decided() or not unfinished):
        targets += found.that_meet(condition)
    if duplicates:
        targets = found.with_copies(targets)
    targets = list({target.video_id or target.uris: target for target in [*targets, *targets_of(again)]}.values())
    clips, index = (read_parquet(path, ["clip_id"]) for path in (dataset.layout.clips, dataset.layout.index))
    gone = {name for target in targets for name in target.clip_ids}
    num_clips, num_indexed = (
        0 if table is None else len(gone & set(table["clip_id"].to_pylist())) for table in (clips, index)
    )
    if absent := [folder for folder in runs if not path_of(absolute(folder)).is_dir()]:
        raise ValueError(f"--runs {absent[0]}: no such folder; give folders in which trainings of {url} lie")
    near = [url, *runs] if is_url(url) else [absolute(url).rpartition("/")[0], *runs]
    return ForgetPlan(
        targets=tuple(targets),
        resumed=tuple(row["uri"] for row in again),
        known=tuple(known),
        copies=tuple(found.copies(targets)),
        runs=tuple(runs_of(url, near)) if targets else (),
        num_clips=num_clips,
        num_indexed=num_indexed,
    )


def forget(url: str, targets: Sequence[Target], reason: str = "") -> ForgetSummary:
    """Take videos down: nothing below the dataset holds them, and no later run takes them up again.

    Args:
        url: the dataset directory.
        targets: the videos.
        reason: kept with the tombstones.

    Raises:
        Occupied: another command writes into the dataset.
        ValueError: a tar cannot be read, so what is in it is not known.
    """
    dataset = Dataset(url)
    with dataset.alone():
        record_first(dataset)
        _bury(dataset, targets, reason)
        stones = [row for row in dataset.forgotten.rows() if not row["is_done"]]
        uris = {row["uri"] for row in stones}
        clip_ids = {name for row in stones for name in row["clip_ids"]}
        made = remove_made(dataset)
        clear_reviews(dataset, clip_ids)
        tars = [*clear_shards(dataset, clip_ids), *clear_encoded(dataset, clip_ids)]
        erase_rows(dataset, clip_ids, uris)
        note = _decide_again(dataset)
        dataset.forgotten.publish({**row, "is_done": True} for row in stones)
        clips, index = (read_parquet(path) for path in (dataset.layout.clips, dataset.layout.index))
        num_kept = 0 if clips is None else pc.sum(pc.equal(clips["decision"], "keep")).as_py() or 0
        return ForgetSummary(
            tars=tuple(tars),
            made=tuple(made),
            unknown=tuple(unknown(dataset)),
            num_kept=num_kept,
            num_indexed=0 if index is None else index.num_rows,
            note=note,
        )


def _bury(dataset: Dataset, targets: Sequence[Target], reason: str) -> None:
    """Publish the tombstones of videos that have none yet, and open those of videos that go once more: these keep the
    time, reason and clips of the first take-down."""
    known = {(row["uri"], row["video_id"]): row for row in dataset.forgotten.rows()}
    new = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "reason": "", "clip_ids": [], "is_done": True}
    rows = []
    for target in targets:
        for uri in target.uris:
            earlier = known.get((uri, target.video_id), new)
            if not earlier["is_done"]:
                continue
            clip_ids = sorted({*earlier["clip_ids"], *target.clip_ids})
            rows.append(
                {
                    "uri": uri,
                    "video_id": target.video_id,
                    "at": earlier["at"],
                    "reason": reason or earlier["reason"],
                    "num_clips": len(clip_ids),
                    "clip_ids": clip_ids,
                    "is_done": False,
                }
            )
    dataset.forgotten.publish(rows)


def _decide_again(dataset: Dataset) -> str | None:
    """Duplicates and relative bounds depend on what is there. Returns why it could not be decided."""
    if dataset.is_running or not dataset.is_decided():
        return "no run has come to its end: the next `reelpack curate` decides"
    config, families = config_of(dataset), dataset.families()
    stored = read_stored(dataset, config, families, keep=True)
    if dataset.read_clips().num_rows and not stored.clips.count_rows():
        return "another version of the scan found the clips that are left; the next `reelpack curate` decides again"
    try:
        check_cut(dataset)
        with recorded(dataset) as changes:
            decide(dataset, stored, config, families, changes)
    except ValueError as error:
        return str(error)
    dataset.write_index(config.shards.key)
    return None
