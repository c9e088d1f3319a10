"""Step: kept clips that no shard holds yet → new shards.

The plan, which clip goes to which shard, is published before anything is cut. A run that was killed is finished as
planned: its shards are the same as without the kill.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from curate.cut import CutStage, ShardPlan
from curate.dataset.dataset import Dataset
from curate.dataset.layout import SPLITS, next_numbers, shard_name, shard_split
from curate.dataset.rows import shard_row
from curate.schema import Clip
from curate.storage.publish import remove_unfinished
from pipelines.console.progress import FRAMES
from pipelines.execute.base import Executor, Resources
from pipelines.execute.work import failures_of, values_of
from pipelines.steps.originals import with_originals
from pipelines.steps.run import CurateRun


def cut(
    run: CurateRun,
    executor: Executor,
    clips: Sequence[Clip],
    splits: Mapping[str, str],
    sidecar: Mapping[str, Mapping[str, Any]],
) -> bool:
    """Cut the kept clips; no shard is ever rewritten.

    Plans of an earlier run come first: new ones are made when all of these are carried out. So the shards do not show
    where a run was killed.

    Args:
        run: the dataset and its settings.
        executor: what runs the stage.
        clips: the kept clips.
        splits: clip id → train or val.
        sidecar: clip id → the user's own columns, for the sample's .json.

    Returns:
        Whether more clips can be pending now: an earlier plan was carried out, or a clip could not be cut and its copy
        can replace it.
    """
    dataset, key = run.dataset, run.config.shards.key
    written = _written(run)
    readable, lost = with_originals(run, [clip for clip in clips if clip.clip_id not in written], CutStage.step)
    run.fail(lost, key)
    pending, given_up, num_failed = {clip.clip_id: clip for clip in readable}, run.given_up({key}), len(lost)
    earlier = unfinished_plans(dataset, pending, given_up, splits, key)
    rows = earlier or plan_shards(dataset, pending, splits, key, run.config.shards.clips_per_shard)
    members: dict[str, list[Clip]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row["shard"], row["position"])):
        members[row["shard"]].append(pending[row["clip_id"]])
    plans = [
        ShardPlan(
            url=f"{dataset.layout.shards}/{shard}",
            split=shard_split(shard),
            clips=tuple(group),
            signed={clip.video_uri: url for clip in group if (url := run.signed.get(clip.video_uri))},
            sidecar={clip.clip_id: sidecar[clip.clip_id] for clip in group if clip.clip_id in sidecar},
        )
        for shard, group in members.items()
    ]
    remove_unfinished(dataset.layout.shards, members)
    stage = CutStage(run.config.shards, run.config.execute.staging)
    for results in run.work(executor, stage, plans, Resources(), "cut", FRAMES, _num_frames):
        shards = values_of(results)
        failures = [*failures_of(results), *(failure for shard in shards for failure in shard.failures)]
        # Failures first: until its rows are there, a shard counts as unfinished, and the others of it are cut again.
        run.fail(failures, key)
        num_failed += len(failures)
        dataset.shards.publish(shard_row(clip, shard.plan.split, key) for shard in shards for clip in shard.clips)
        remove_unfinished(dataset.layout.shards, {shard.plan.url.rpartition("/")[2] for shard in shards})
        run.num_frames_decoded += sum(clip.num_frames for shard in shards for clip in shard.clips)
    return bool(earlier or num_failed)


def _num_frames(plan: ShardPlan) -> int:
    return sum(clip.num_frames for clip in plan.clips)


def uncut(run: CurateRun) -> set[str]:
    """Clips that could not be cut, and are not to be tried again in this run."""
    return run.given_up({run.config.shards.key}) - _written(run)


def _written(run: CurateRun) -> set[str]:
    return {row["clip_id"] for row in run.dataset.shards.rows() if row["cut_key"] == run.config.shards.key}


def unfinished_plans(
    dataset: Dataset, pending: Collection[str], given_up: Collection[str], splits: Mapping[str, str], key: str
) -> list[dict[str, Any]]:
    """Rows of tables/shard_plans for shards that were planned, not written, and are still needed.

    Such a shard is written as planned, without the clips that failed, if all others are pending and have its split.
    Otherwise they are planned again, under a number that no shard had.

    Args:
        dataset: that holds the plans.
        pending: ids of the clips that no shard holds.
        given_up: those that could not be cut, and are not tried again.
        splits: clip id → train or val.
        key: names the settings of the encoder.
    """
    names = {row["shard"] for row in dataset.shards.rows()}
    unfinished: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in dataset.shard_plans.rows():
        if row["cut_key"] == key and row["shard"] not in names and row["clip_id"] not in given_up:
            unfinished[row["shard"]].append(row)
    return [
        row
        for group in unfinished.values()
        if all(row["clip_id"] in pending and splits[row["clip_id"]] == row["split"] for row in group)
        for row in group
    ]


def plan_shards(
    dataset: Dataset, pending: Collection[str], splits: Mapping[str, str], key: str, clips_per_shard: int
) -> list[dict[str, Any]]:
    """Plan new shards for the clips that are pending, and publish the plan: its rows of tables/shard_plans."""
    first = next_numbers(row["shard"] for row in (*dataset.shard_plans.rows(), *dataset.shards.rows()))
    rows = list(_new_rows(sorted(pending), splits, key, clips_per_shard, first))
    dataset.shard_plans.publish(rows)
    return rows


def _new_rows(
    clip_ids: Sequence[str], splits: Mapping[str, str], key: str, clips_per_shard: int, first: Mapping[str, int]
) -> Iterable[dict[str, Any]]:
    for split in SPLITS:
        members = [clip_id for clip_id in clip_ids if splits[clip_id] == split]
        for index, clip_id in enumerate(members):
            number = first[split] + index // clips_per_shard
            yield {
                "clip_id": clip_id,
                "cut_key": key,
                "split": split,
                "shard": shard_name(split, number),
                "position": index % clips_per_shard,
            }
