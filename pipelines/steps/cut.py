"""Step: kept clips that no shard holds yet → new shards.

The plan, which clip goes to which shard, is published before anything is cut. A run that was killed is finished as
planned: its shards are the same as without the kill. Shards are cut in pieces, which stay until their shard is there.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from curate.cut import CutStage, JoinStage, ShardPlan, plan_pieces
from curate.dataset.dataset import Dataset
from curate.dataset.layout import SPLITS, next_numbers, shard_name, shard_split
from curate.dataset.rows import shard_row
from curate.schema import Clip, Failure
from curate.storage.publish import remove_files, remove_folder, remove_unfinished
from pipelines.console.progress import FRAMES
from pipelines.execute.base import Executor, Resources, batches
from pipelines.execute.local import LocalExecutor
from pipelines.execute.work import failures_of, values_of
from pipelines.steps.originals import with_originals
from pipelines.steps.run import CurateRun

SHARDS_AT_ONCE = 256
"""Shards whose pieces are there at the same time, at most."""
MANY_SHARDS = 16
"""Fewer are joined in this process: that takes less time than to start workers."""


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
            pieces=tuple(plan_pieces(dataset.layout.pieces, group, sidecar, run.signed, key)),
        )
        for shard, group in members.items()
    ]
    remove_unfinished(dataset.layout.shards, members)
    for some in batches(plans, SHARDS_AT_ONCE):
        failures = _cut(run, executor, some)
        num_failed += len(failures)
        _join(run, executor, some)
    remove_folder(dataset.layout.pieces)
    return bool(earlier or num_failed)


def _cut(run: CurateRun, executor: Executor, shards: Sequence[ShardPlan]) -> list[Failure]:
    """Write the pieces of these shards; returns the failures of clips, which are published."""
    stage = CutStage(run.config.shards, run.config.execute.staging)
    pieces, resources = [piece for shard in shards for piece in shard.pieces], Resources(in_threads=True)
    found: list[Failure] = []
    for results in run.work(executor, stage, pieces, resources, "cut", FRAMES, lambda piece: piece.num_frames):
        failures = [*failures_of(results), *(failure for piece in values_of(results) for failure in piece.failures)]
        run.fail(failures, run.config.shards.key)
        found += failures
    return found


def _join(run: CurateRun, executor: Executor, shards: Sequence[ShardPlan]) -> None:
    """Write these shards of their pieces, which are not needed then."""
    if len(shards) < MANY_SHARDS:
        executor = LocalExecutor()
    for results in run.work(executor, JoinStage(), shards, Resources(in_threads=True), "shards"):
        run.dataset.shards.publish(
            shard_row(clip, plan.split, run.config.shards.key) for plan, shard in results for clip in shard.clips
        )
        remove_unfinished(run.dataset.layout.shards, {plan.url.rpartition("/")[2] for plan, _ in results})
        for plan, shard in results:
            run.num_frames_decoded += sum(clip.num_frames for clip in shard.clips)
            remove_files(piece.url for piece in plan.pieces)


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
    dataset: Dataset, pending: Mapping[str, Clip], splits: Mapping[str, str], key: str, clips_per_shard: int
) -> list[dict[str, Any]]:
    """Plan new shards for the clips that are pending, and publish the plan: its rows of tables/shard_plans. Films come
    in the order of their ids, the clips of a film in that of time."""
    first = next_numbers(row["shard"] for row in (*dataset.shard_plans.rows(), *dataset.shards.rows()))
    in_order = sorted(pending, key=lambda clip_id: _place(pending[clip_id]))
    rows = list(_new_rows(in_order, splits, key, clips_per_shard, first))
    dataset.shard_plans.publish(rows)
    return rows


def _place(clip: Clip) -> tuple[str, float, str]:
    return clip.video_id, clip.span.start_s, clip.clip_id


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
