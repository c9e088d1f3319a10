"""Step: clips without a record by the captioner → records. It reads what is stored, subtracts, runs the stage on the
rest and publishes. Then it looks at all captions together, and attempts again those that repeat each other.
"""

import shlex
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from caption.captioner import CaptionStage
from caption.clip import STEP
from caption.config import CaptionConfig
from caption.facts import Facts, facts_of
from caption.item import Captioned, CaptionItem
from caption.quality.base import Check, RecordKey
from caption.record import Attempt, Finding, attempt_of, finding_row, rank_of, record_row, status_of
from curate.dataset.captions import USABLE, CaptionLevel, CaptionStatus, reason_of, usable
from curate.dataset.dataset import Dataset
from curate.dataset.rows import failure_row
from curate.dataset.schemas import CAPTIONS
from curate.dataset.sources import SOURCE, of_current
from curate.dataset.table import left_join
from curate.schema import Failure, FailureKind
from curate.signals.config import SIGNAL_NAMES
from pipelines.console.progress import CLIPS
from pipelines.execute.base import ExecuteConfig, Executor, Resources
from pipelines.execute.build import open_executor
from pipelines.execute.work import Work, failures_of, finished, values_of
from pipelines.steps.recheck import recheck

Records = Mapping[str, Mapping[CaptionLevel, Mapping[str, Any]]]
"""Clip id → level → row of tables/captions."""


@dataclass(kw_only=True, slots=True)
class Done:
    """What a run did.

    Attributes:
        num_new: Clips with new records.
        num_failed: Clips that lack a record of a level.
        num_retried: Records that took more than one attempt.
        waited_s, asked_s: Seconds that models waited for frames, and worked.
        earlier_libraries: Of the records that there were before, as JSON.
    """

    num_new: int = 0
    num_failed: int = 0
    num_retried: int = 0
    waited_s: float = 0.0
    asked_s: float = 0.0
    earlier_libraries: set[str] = field(default_factory=set)

    @property
    def starved(self) -> float:
        """Share of the time in which a model waited for frames."""
        total_s = self.waited_s + self.asked_s
        return self.waited_s / total_s if total_s else 0.0

    def add(self, captioned: Captioned) -> None:
        self.num_new += bool(captioned.records)
        self.num_retried += sum(record.attempt > 1 for record in captioned.records)
        self.waited_s += captioned.waited_s
        self.asked_s += captioned.asked_s


def stored_records(
    dataset: Dataset, family: str | None, index: pa.Table, columns: Sequence[str] | None = None
) -> pa.Table:
    """The captioner's records of the clips as they are cut now; none without a captioner."""
    if family is None:
        return CAPTIONS.empty_table()
    return of_current(dataset.captions(family).read(columns and [*columns, SOURCE]), index)


def caption_missing(dataset: Dataset, settings: CaptionConfig, execute: ExecuteConfig, *, retry: bool) -> Done:
    """Write the records that are missing; with `retry` also those that no attempt passed."""
    index = dataset.read_index()
    stored_table = stored_records(dataset, settings.family, index)
    if recheck(dataset, settings, stored_table, lambda: _known(dataset, index)):
        stored_table = stored_records(dataset, settings.family, index)
    earlier = stored_table.to_pylist()
    done = Done(earlier_libraries={record["provenance"]["libraries"] for record in earlier if record["provenance"]})
    checks = settings.checks.build()
    with open_executor(execute) as executor:
        writer = _Writer(dataset, settings, executor, execute, done)
        stored = _by_clip(earlier)
        again = _by_clip(dataset.to_retry(stored_table, index).to_pylist()) if retry else {}
        writer.write(_items(dataset, index, _wanted(settings, index, stored, again), stored))
        for _ in range(settings.max_attempts):
            records = stored_records(dataset, settings.family, index)
            found = _of_corpus(checks, records, dataset)
            writer.mark(records, found)
            if found:
                records = stored_records(dataset, settings.family, index)
            failed = {failure.subject for failure in writer.failures}
            repeat = _to_repeat(checks, dataset.to_retry(records, index), failed, settings.max_attempts)
            if not repeat:
                break
            writer.write(_items(dataset, index, repeat, _by_clip(records.to_pylist())))
    _publish_failures(dataset, settings, index, writer.failures)
    return done


class _Writer:
    """Runs the stage on items, and publishes their records."""

    def __init__(
        self, dataset: Dataset, settings: CaptionConfig, executor: Executor, execute: ExecuteConfig, done: Done
    ) -> None:
        assert settings.family is not None
        self.dataset, self.executor, self.execute, self.done = dataset, executor, execute, done
        self.stage = CaptionStage(settings, dataset.layout.shards)
        self.table = dataset.captions(settings.family)
        self.failures: list[Failure] = []

    def write(self, items: Sequence[CaptionItem]) -> None:
        resources = Resources(batch_size=self.stage.batch_size, num_gpus=self.execute.gpus_per_worker)
        work = Work(stage=self.stage, items=items, resources=resources, name=STEP, unit=CLIPS)
        for results in finished(self.dataset, self.executor, work, self.execute.publish_every_s):
            captioned = values_of(results)
            failures = [*failures_of(results), *(failure for one in captioned for failure in one.failures)]
            self.failures += failures
            self.done.num_failed += len({failure.subject for failure in failures})
            for one in captioned:
                self.done.add(one)
            self.table.publish(record_row(record) for one in captioned for record in one.records)

    def mark(self, records: pa.Table, found: Mapping[RecordKey, Sequence[Finding]]) -> None:
        """Add findings to stored records. A record that has them already stays as it is."""
        rows = []
        for row in records.to_pylist() if found else ():
            have = {finding["code"] for finding in row["findings"] or ()}
            new = [one for one in found.get(_key(row), ()) if one.code not in have]
            if new:
                statuses = [CaptionStatus(row["status"]), status_of(tuple(new))]
                worst = max(statuses, key=rank_of)
                findings = [*(row["findings"] or ()), *map(finding_row, new)]
                rows.append(row | {"status": str(worst), "findings": findings})
        self.table.publish(rows)


def _by_clip(records: Iterable[Mapping[str, Any]]) -> Records:
    """The records that are no variants."""
    stored: dict[str, dict[CaptionLevel, Mapping[str, Any]]] = defaultdict(dict)
    for record in records:
        if not record["variant"]:
            stored[record["clip_id"]][record["level"]] = record
    return stored


def _wanted(
    settings: CaptionConfig, index: pa.Table, stored: Records, again: Records
) -> dict[str, tuple[CaptionLevel, ...]]:
    """Clip id → levels to write: those without a record, and those to attempt again."""
    wanted = {}
    for clip_id in index["clip_id"].to_pylist():
        found = stored.get(clip_id, {})
        levels = tuple(
            level for level in settings.prompt_set.levels if level not in found or level in again.get(clip_id, {})
        )
        if levels:
            wanted[clip_id] = levels
    return wanted


def _items(
    dataset: Dataset, index: pa.Table, wanted: Mapping[str, tuple[CaptionLevel, ...]], stored: Records
) -> list[CaptionItem]:
    """Items for these levels of these clips, with what is measured of the clips and known of their captions."""
    facts, originals = _known(dataset, index)
    items = []
    for row in index.to_pylist():
        if (clip_id := row["clip_id"]) not in wanted:
            continue
        found = stored.get(clip_id, {})
        fields = found.get("fields")
        items.append(
            CaptionItem(
                **{name: row[name] for name in ("clip_id", "shard", "offset", "size", "kind", "digest")},
                facts=facts[clip_id],
                original=originals.get(clip_id),
                levels=wanted[clip_id],
                fields=fields["text"] if fields and fields["status"] in USABLE else None,
                earlier={level: _attempts(found[level]) for level in wanted[clip_id] if level in found},
            )
        )
    return items


def _known(dataset: Dataset, index: pa.Table) -> tuple[dict[str, Facts], dict[str, str]]:
    """By clip id, what is measured of the clips, and the user's own text where there is one that can be used."""
    clips = dataset.read_clips()
    signals = [name for name in SIGNAL_NAMES if name in clips.column_names]
    rows = left_join(index, clips.select(["clip_id", *signals]), "clip_id").to_pylist()
    texts = dataset.texts(index)
    originals = texts.filter(pc.equal(texts["level"], "original"))
    text_of = dict(zip(originals["clip_id"].to_pylist(), originals["text"].to_pylist(), strict=True))
    return {row["clip_id"]: facts_of(row) for row in rows}, text_of


def _attempts(record: Mapping[str, Any]) -> tuple[Attempt, ...]:
    """The attempts of a stored record, itself the last."""
    findings = record["findings"] or ()
    itself = {
        "text": record["text"],
        "codes": [finding["code"] for finding in findings],
        "remedies": [finding["remedy"] for finding in findings if finding["remedy"]],
    }
    return tuple(map(attempt_of, (*(record["earlier"] or ()), itself)))


def _of_corpus(checks: Sequence[Check], records: pa.Table, dataset: Dataset) -> dict[RecordKey, list[Finding]]:
    """What the checks find among all usable captions."""
    clips = dataset.read_clips().select(["clip_id", "duplicate_group"]).to_pylist()
    groups = {row["clip_id"]: str(row["duplicate_group"]) for row in clips if row["duplicate_group"] is not None}
    found: dict[RecordKey, list[Finding]] = defaultdict(list)
    for check in checks:
        for key, findings in check.of_corpus(usable(records), groups).items():
            found[key] += findings
    return found


def _to_repeat(
    checks: Sequence[Check], to_retry: pa.Table, failed: Collection[str], max_attempts: int
) -> dict[str, tuple[CaptionLevel, ...]]:
    """Clip id → levels to attempt again because of the other captions, also for a run that was stopped before.

    Args:
        checks: of which those of the corpus count.
        to_retry: rows of `CAPTIONS`.
        failed: clips that this run could not caption.
        max_attempts: of a caption.
    """
    codes = {
        code for check in checks if check.reads == "corpus" for code, remedies in check.remedies.items() if remedies
    }
    again: dict[str, tuple[CaptionLevel, ...]] = {}
    for record in to_retry.to_pylist():
        found, clip_id = {finding["code"] for finding in record["findings"] or ()}, record["clip_id"]
        if found & codes and clip_id not in failed and len(_attempts(record)) < max_attempts:
            again[clip_id] = (*again.get(clip_id, ()), record["level"])
    return again


def _key(row: Mapping[str, Any]) -> RecordKey:
    return row["clip_id"], row["level"], row["variant"]


def retry_command(dataset: Dataset) -> str:
    return shlex.join(["reelpack", "retry", dataset.url, "--step", STEP])


def _publish_failures(dataset: Dataset, settings: CaptionConfig, index: pa.Table, failures: Sequence[Failure]) -> None:
    """One row per clip whose model was asked for a level and gave no text that can be used."""
    assert settings.family is not None
    command = retry_command(dataset)
    rows = {failure.subject: failure_row(failure, settings.family, command) for failure in failures}
    records = stored_records(dataset, settings.family, index, ["text", "status", "findings", "attempt"])
    rejected: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for record in dataset.to_retry(records, index).to_pylist():
        rejected[record["clip_id"]].append(record)
    for clip_id, of_clip in rejected.items():
        detail = "; ".join(f"{record['level']} caption: {reason_of(record)}" for record in of_clip)
        attempts = max(record["attempt"] or 1 for record in of_clip)
        failure = Failure(subject=clip_id, step=STEP, kind=FailureKind.REJECTED, detail=detail, attempts=attempts)
        rows.setdefault(clip_id, failure_row(failure, settings.family, command))
    dataset.failures.publish(rows.values())
