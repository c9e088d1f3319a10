"""Step: clips without a record by the captioner → records. It reads what is stored, subtracts, runs the stage on the
rest and publishes. Then it looks at all captions together, and attempts again those that repeat each other.

Several jobs can do this at the same time: each captions the portions that it claims (`pipelines.steps.shares`), and
one of them at a time looks at all captions together.
"""

import shlex
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from caption.captioner import CaptionStage
from caption.clip import STEP
from caption.config import CaptionConfig
from caption.item import Captioned, CaptionItem
from caption.quality.base import Check, RecordKey
from caption.record import Finding, finding_row, rank_of, record_row, status_of
from curate.dataset.captions import USABLE, CaptionLevel, CaptionStatus, reason_of, usable
from curate.dataset.dataset import Dataset
from curate.dataset.rows import failure_row
from curate.schema import Failure, FailureKind
from curate.storage.claims import Claims
from curate.storage.lease import Occupied, hold
from pipelines.console.progress import CLIPS, Line, shown
from pipelines.execute.base import ExecuteConfig, Executor, Resources
from pipelines.execute.build import open_executor
from pipelines.execute.work import Work, failures_of, finished, values_of
from pipelines.steps.caption_items import (
    attempts_of,
    by_clip,
    items_of,
    known_of,
    stored_records,
    wanted_levels,
)
from pipelines.steps.recheck import recheck
from pipelines.steps.shares import Shares

BATCHES_HERE, BATCHES_ON_RAY = 4, 64
"""Least size of a portion: each ends with a batch that runs alone, and on Ray each starts workers of its own."""


@dataclass(kw_only=True, slots=True)
class Done:
    """What a run did.

    Attributes:
        new: Ids of the clips with new records; a repeated caption has a clip captioned twice.
        num_records, num_rejected: Those records, and the ones whose text is not used.
        failed: Clip id → why a level of it could not be captioned.
        num_retried: Records that took more than one attempt.
        waited_s, asked_s: Seconds that models waited for frames, and worked.
        earlier_libraries: Of the records that there were before, as JSON.
        fallbacks: Why PyAV read clips instead of the chosen reader, with their number.
    """

    new: set[str] = field(default_factory=set)
    num_records: int = 0
    num_rejected: int = 0
    failed: dict[str, Failure] = field(default_factory=dict)
    num_retried: int = 0
    waited_s: float = 0.0
    asked_s: float = 0.0
    earlier_libraries: set[str] = field(default_factory=set)
    fallbacks: Counter[str] = field(default_factory=Counter)

    @property
    def num_new(self) -> int:
        return len(self.new)

    @property
    def num_failed(self) -> int:
        return len(self.failed)

    @property
    def starved(self) -> float:
        """Share of the time in which a model waited for frames."""
        total_s = self.waited_s + self.asked_s
        return self.waited_s / total_s if total_s else 0.0

    def notes(self) -> tuple[str, ...]:
        """For the progress line."""
        if not self.num_records:
            return ()
        return f"{self.num_rejected / self.num_records:.0%} rejected", f"{self.starved:.0%} waiting for frames"

    def add(self, captioned: Captioned) -> None:
        self.new |= {record.clip_id for record in captioned.records}
        self.num_records += len(captioned.records)
        self.num_rejected += sum(record.status not in USABLE for record in captioned.records)
        self.num_retried += sum(record.attempt > 1 for record in captioned.records)
        self.waited_s += captioned.waited_s
        self.asked_s += captioned.asked_s
        self.fallbacks.update([captioned.fallback] if captioned.fallback else [])


def caption_missing(
    dataset: Dataset, settings: CaptionConfig, execute: ExecuteConfig, claims: Claims, *, retry: bool
) -> Done:
    """Write the records that are missing; with `retry` also those that no attempt passed."""
    index = dataset.read_index()
    stored_table = stored_records(dataset, settings.family, index)
    if recheck(dataset, settings, stored_table, lambda: known_of(dataset, index)):
        stored_table = stored_records(dataset, settings.family, index)
    earlier = stored_table.to_pylist()
    done = Done(earlier_libraries={record["provenance"]["libraries"] for record in earlier if record["provenance"]})
    stored = by_clip(earlier)
    again = by_clip(dataset.to_retry(stored_table, index).to_pylist()) if retry else {}
    wanted = wanted_levels(settings, index, stored, again)
    items = {item.clip_id: item for item in items_of(dataset, index, wanted, stored)}

    def still_open(clip_ids: Collection[str]) -> set[str]:
        """Those whose records are the ones that this job read in the beginning."""
        now = by_clip(stored_records(dataset, settings.family, index, ["attempt"]).to_pylist())
        return {one for one in clip_ids if _attempt_of(now.get(one, {})) == _attempt_of(stored.get(one, {}))}

    with open_executor(execute) as executor:
        writer = _Writer(dataset, settings, executor, execute, done)
        batches = BATCHES_ON_RAY if execute.executor == "ray" else BATCHES_HERE
        least = batches * writer.stage.batch_size
        shares = Shares(claims, f"{STEP} {settings.family}", items, least=least, open_of=still_open)
        line = Line(STEP, len(items), len(items), CLIPS)
        with shown(line, lambda: line.update(executor.under_way())) if items else nullcontext():
            for portion in shares.portions():
                line.expect(line.num_done + len(portion) + shares.num_left)
                writer.write([item for item in items.values() if item.clip_id in portion], line)
            line.expect(line.num_done)
        with suppress(Occupied), hold(dataset.url, f"corpus{settings.key}"):  # else another job looks at all captions
            _look_at_all(dataset, settings, index, writer)
    _publish_failures(dataset, settings, index, writer.failures)
    return done


def _look_at_all(dataset: Dataset, settings: CaptionConfig, index: pa.Table, writer: "_Writer") -> None:
    """Mark the captions that repeat each other, and attempt them again."""
    checks = settings.checks.build()
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
        writer.write(items_of(dataset, index, repeat, by_clip(records.to_pylist())))


def _attempt_of(stored: Mapping[CaptionLevel, Mapping[str, Any]]) -> dict[CaptionLevel, int]:
    """Level → number of the attempt that its record is of."""
    return {level: record["attempt"] for level, record in stored.items()}


class _Writer:
    """Runs the stage on items, and publishes their records."""

    def __init__(
        self, dataset: Dataset, settings: CaptionConfig, executor: Executor, execute: ExecuteConfig, done: Done
    ) -> None:
        assert settings.family is not None
        self.dataset, self.executor, self.execute, self.done = dataset, executor, execute, done
        self.settings, self.is_first = settings, dataset.caption_family is None
        self.stage, self.family = CaptionStage(settings, dataset.layout.shards), settings.family
        self.failures: list[Failure] = []

    def write(self, items: Sequence[CaptionItem], line: Line | None = None) -> None:
        """`line`: is shown already, and these items are a part of it."""
        resources = Resources(batch_size=self.stage.batch_size, num_gpus=self.execute.gpus_per_worker)
        table = self.dataset.captions(self.family)  # numbers its parts on from those of other jobs

        def seen(result: Captioned | Failure) -> None:
            if isinstance(result, Captioned):
                self.done.add(result)
            if line is not None:
                line.notes = self.done.notes()

        work = Work(stage=self.stage, items=items, resources=resources, name=STEP, unit=CLIPS, line=line, seen=seen)
        for results in finished(self.dataset, self.executor, work, self.execute.publish_every_s):
            captioned = values_of(results)
            failures = [*failures_of(results), *(failure for one in captioned for failure in one.failures)]
            self.failures += failures
            self.done.failed.update((failure.subject, failure) for failure in failures)
            records = [record for one in captioned for record in one.records]
            if records and self.is_first:
                save_settings(self.dataset, self.settings)
                self.is_first = False
            table.publish(map(record_row, records))

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
        self.dataset.captions(self.family).publish(rows)


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
        if found & codes and clip_id not in failed and len(attempts_of(record)) < max_attempts:
            again[clip_id] = (*again.get(clip_id, ()), record["level"])
    return again


def _key(row: Mapping[str, Any]) -> RecordKey:
    return row["clip_id"], row["level"], row["variant"]


def save_settings(dataset: Dataset, settings: CaptionConfig) -> None:
    """Whose captions count, and how they are attempted again. A first run saves it before its first record: where it
    is killed, `retry` runs with the same settings."""
    assert settings.backend is not None
    dataset.save_section("caption", settings.model_dump(mode="json"))
    dataset.save_section("caption_media", settings.media.model_dump(mode="json"))
    dataset.save_section("caption_family", settings.family)
    dataset.save_section("caption_note", settings.backend.caveat)


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
