"""Step: clips → scores. Each clip's frames are decoded once, for every scorer that owes it a value."""

from collections.abc import Mapping, Sequence
from typing import Any

from curate.dataset.store import Table
from curate.dataset.table import left_join
from curate.media.fetch import Staged
from curate.schema import Clip
from curate.scores.score import TEXT_DIGEST, ScoreItem, ScoreStage, text_digest
from curate.select import broken_by
from pipelines.console.progress import FRAMES
from pipelines.execute.base import Executor, Resources
from pipelines.execute.work import failures_of, values_of
from pipelines.steps.decide import facts, with_sidecar
from pipelines.steps.originals import with_originals
from pipelines.steps.own_texts import of_texts_now, own_texts
from pipelines.steps.run import CurateRun

SCORE_BATCH = 4
"""Clips that a score worker takes at a time: enough for a model's batch, small enough to spread over workers."""


def score(run: CurateRun, executor: Executor, clips: Sequence[Clip], stage: ScoreStage) -> None:
    """Compute the values that are missing, family by family: only a changed scorer runs again."""
    tables = {family: run.dataset.scores(family, columns) for family, columns in stage.families.items()}
    uris = {clip.clip_id: clip.video_uri for clip in clips}
    texts = {column: own_texts(run.dataset, column) for column in stage.reads.values()}
    have = {
        family: _of_texts(table, uris, texts[stage.reads[family]]) if family in stage.reads else table.ids()
        for family, table in tables.items()
    }
    decoding = "+".join(stage.families)
    done = {family: have[family] | run.given_up({family}) for family in stage.families}
    judged = {family: tables[family] for family in tables.keys() - stage.reads.keys()}
    known, rejected = _known(run, judged) if run.config.score.early_exit else ({}, set())
    left_out = run.given_up({decoding}) | rejected
    pending = {
        clip.clip_id: families
        for clip in clips
        if clip.clip_id not in left_out
        and (families := frozenset(family for family in stage.families if clip.clip_id not in done[family]))
    }
    readable, lost = with_originals(run, [clip for clip in clips if clip.clip_id in pending], stage.step)
    run.fail(lost, decoding)
    todo = [
        ScoreItem(
            clip=clip,
            path=run.signed.get(clip.video_uri, clip.video_uri),
            version=clip.video_version,
            families=pending[clip.clip_id],
            known=known.get(clip.clip_id, {}),
            texts={column: of[uri] for column, of in texts.items() if (uri := uris[clip.clip_id]) in of},
        )
        for clip in readable
    ]
    resources = Resources(batch_size=SCORE_BATCH, num_gpus=run.config.execute.gpus_per_worker)
    for results in run.work(
        executor, Staged(stage, run.config.execute.staging), todo, resources, "score", FRAMES, _num_frames
    ):
        scored = values_of(results)
        for family, table in tables.items():
            table.publish({"clip_id": one.clip_id, **one.values[family]} for one in scored if family in one.values)
        run.fail(failures_of(results), decoding)
        for family in stage.families:
            run.fail([failure for one in scored for failure in one.failures if failure.step == family], family)
        run.num_frames_decoded += sum(one.num_decoded_frames for one in scored)
        run.fallbacks.update(one.fallback for one in scored if one.fallback)


def _of_texts(table: Table, uris: Mapping[str, str], texts: Mapping[str, str]) -> set[str]:
    """Clips whose values are of their texts as they are now. Those that have no text get a row without a value."""
    have = set(of_texts_now(table.read([TEXT_DIGEST]), uris, texts)["clip_id"].to_pylist())
    without = [name for name, uri in uris.items() if uri not in texts and name not in have]
    table.publish({"clip_id": name, TEXT_DIGEST: text_digest(None)} for name in without)
    return have | set(without)


def _num_frames(item: ScoreItem) -> int:
    return item.clip.num_frames


def _known(run: CurateRun, tables: Mapping[str, Table]) -> tuple[dict[str, dict[str, Any]], set[str]]:
    """Clip id → what is stored of the columns that the policy has rules for, and the clips that it rejects already."""
    rules = run.config.select.rules
    clips = with_sidecar(run.dataset.sidecar(), facts(run.dataset, run.config.scan))
    for table in tables.values():
        clips = left_join(clips, table.read(list(rules)), "clip_id")
    names = [name for name in rules if name in clips.column_names]
    breaks = zip(clips["clip_id"].to_pylist(), broken_by(clips, run.config.select), strict=True)
    values = {row.pop("clip_id"): row for row in clips.select(["clip_id", *names]).to_pylist()}
    return values, {clip_id for clip_id, rules in breaks if rules}
