"""Step: kept clips that no shard holds yet → new shards.

Which clip goes where is planned and published before anything is cut: a run that is killed half-way is finished as it
was planned, so that its shards come out as if nothing had happened.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from curate.cut import CutStage, ShardPlan
from curate.schema import Clip
from pipelines.dataset import Dataset
from pipelines.execute import Executor, Needs
from pipelines.steps.run import CurateRun, failures_of, values_of
from pipelines.tables import shard_row


def cut(
    run: CurateRun,
    on: Executor,
    clips: Sequence[Clip],
    splits: Mapping[str, str],
    sidecar: Mapping[str, Mapping[str, Any]],
) -> None:
    """Cut the kept clips; no shard is ever rewritten.

    Args:
        run: the dataset and its settings.
        on: what runs the stage.
        clips: the kept clips.
        splits: clip id → train or val.
        sidecar: clip id → the user's own columns, for the sample's .json.
    """
    dataset, key = run.dataset, run.config.shards.key
    written = {row["clip_id"] for row in dataset.shards.rows() if row["cut_key"] == key}
    owed = {clip.clip_id: clip for clip in clips if clip.clip_id not in written}
    rows = plan_shards(dataset, owed, run.settled({key}), splits, key, run.config.shards.clips_per_shard)
    members: dict[str, list[Clip]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row["shard"], row["position"])):
        members[row["shard"]].append(owed[row["clip_id"]])
    plans = [
        ShardPlan(
            url=f"{dataset.shards_url}/{shard}",
            split=shard.partition("-")[0],
            clips=tuple(group),
            sidecar={clip.clip_id: sidecar[clip.clip_id] for clip in group if clip.clip_id in sidecar},
        )
        for shard, group in members.items()
    ]
    stage = CutStage(run.config.shards, run.config.execute.staging)
    for results in run.work(on, stage, plans, Needs(), "cut"):
        shards = values_of(results)
        # Failures first: until its rows are there, a shard counts as unfinished, and is cut again as planned.
        run.fail([*failures_of(results), *(failure for shard in shards for failure in shard.failures)], key)
        dataset.shards.publish(shard_row(clip, shard.plan.split, key) for shard in shards for clip in shard.clips)
        run.num_frames_decoded += sum(clip.num_frames for shard in shards for clip in shard.clips)


def plan_shards(
    dataset: Dataset,
    owed: Collection[str],
    settled: Collection[str],
    splits: Mapping[str, str],
    key: str,
    clips_per_shard: int,
) -> list[dict[str, Any]]:
    """Rows of tables/shard_plans for the clips that are to be cut now: those of an unfinished run, and new ones.

    A shard that was planned but not written is taken over if all its clips are still owed to the same split; otherwise
    they are planned anew, under a number that no shard had.

    Args:
        dataset: where the plans lie.
        owed: ids of the clips that no shard holds.
        settled: those that could not be cut, and are not tried again unless their unfinished shard is.
        splits: clip id → train or val.
        key: names the settings of the encoder.
        clips_per_shard: most clips in one tar.
    """
    earlier, written = dataset.shard_plans.rows(), dataset.shards.rows()
    names = {row["shard"] for row in written}
    unfinished: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in earlier:
        if row["cut_key"] == key and row["shard"] not in names:
            unfinished[row["shard"]].append(row)
    rows = [
        row
        for group in unfinished.values()
        if all(row["clip_id"] in owed and splits[row["clip_id"]] == row["split"] for row in group)
        and not all(row["clip_id"] in settled for row in group)
        for row in group
    ]
    new = sorted(set(owed) - set(settled) - {row["clip_id"] for row in rows})
    fresh = list(_new_rows(new, splits, key, clips_per_shard, _last_numbers([*earlier, *written])))
    dataset.shard_plans.publish(fresh)
    return rows + fresh


def _new_rows(
    clip_ids: Sequence[str], splits: Mapping[str, str], key: str, clips_per_shard: int, last: Mapping[str, int]
) -> Iterable[dict[str, Any]]:
    for split in ("train", "val"):
        members = [clip_id for clip_id in clip_ids if splits[clip_id] == split]
        for index, clip_id in enumerate(members):
            number = last.get(split, -1) + 1 + index // clips_per_shard
            yield {
                "clip_id": clip_id,
                "cut_key": key,
                "split": split,
                "shard": f"{split}-{number:06d}.tar",
                "position": index % clips_per_shard,
            }


def _last_numbers(plans: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Split → the highest number that any shard was planned with."""
    last: dict[str, int] = {}
    for row in plans:
        split, number = row["shard"].removesuffix(".tar").rsplit("-", 1)
        last[split] = max(last.get(split, -1), int(number))
    return last
