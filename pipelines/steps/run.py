"""One run of `curate` over one dataset: what its steps share."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from curate.dataset.dataset import Dataset
from curate.dataset.rows import failure_row
from curate.schema import RETRYABLE, Failure, FailureKind
from pipelines.config import Config
from pipelines.console.progress import ITEMS, Unit
from pipelines.execute.base import Executor, Resources
from pipelines.execute.work import Results, Work, finished


class CurateRun:
    """The dataset and the configuration of a run, and what it counts.

    Args:
        dataset: that holds the tables.
        config: the resolved configuration.
        command: what repeats this run, for the record of failures.
        listed: URI → version of the files that the inputs of this run name.
        signed: URI → the URL with its signature, of those that have one: only to fetch by, and stored nowhere.
        retry: kinds of failure that are attempted again; the retryable ones always are.
    """

    def __init__(
        self,
        dataset: Dataset,
        config: Config,
        command: str,
        listed: Mapping[str, str],
        retry: Collection[FailureKind] = frozenset(),
        signed: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.dataset = dataset
        self.config = config
        self.listed = listed
        self.signed = signed
        self.num_frames_decoded = 0
        self.fallbacks: Counter[str] = Counter()
        """Why PyAV read the frames of clips instead of the chosen reader."""
        self.failures: list[Failure] = []
        self._command = command
        self._retry = RETRYABLE | frozenset(retry)
        self._failed_now: set[tuple[str, str]] = set()
        self._known = {(row["subject"], row["step"], row["key"]): row for row in dataset.failures.rows()}

    def is_done(self, kind: str | None) -> bool:
        """Whether an item that ended as this kind of failure (None: in success) is left as it is."""
        return kind is None or FailureKind(kind) not in self._retry

    def given_up(self, keys: Collection[str]) -> set[str]:
        """Subjects that failed under one of these keys and are left as they are, those that failed in this run too."""
        return {
            row["subject"]
            for row in self._known.values()
            if row["key"] in keys and (self.is_done(row["kind"]) or (row["subject"], row["key"]) in self._failed_now)
        }

    def failed_subjects(self, step: str, key: str) -> set[str]:
        """Subjects with a failure of a step, in this run or earlier."""
        return {row["subject"] for row in self._known.values() if (row["step"], row["key"]) == (step, key)}

    def work(
        self,
        executor: Executor,
        stage: Any,
        items: Sequence[Any],
        resources: Resources,
        name: str,
        unit: Unit = ITEMS,
        amount: Callable[[Any], float] = lambda _: 1.0,
    ) -> Iterator[Results]:
        """Run a stage; yields what ended since the last time, to be published, every `execute.publish_every_s` and at
        the end.

        Args:
            executor: what runs it.
            stage: the stage.
            items: its items.
            resources: of a worker.
            name: of the progress line.
            unit: that the line measures work in.
            amount: of work in an item.
        """
        work = Work(stage=stage, items=items, resources=resources, name=name, unit=unit, amount=amount)
        return finished(self.dataset, executor, work, self.config.execute.publish_every_s)

    def fail(self, failures: Iterable[Failure], key: str) -> None:
        """Record failures of a step whose settings and weights `key` names; attempts add up over runs."""
        rows = []
        for failure in failures:
            before = self._known.get((failure.subject, failure.step, key))
            attempts = failure.attempts + (before["attempts"] if before else 0)
            row = failure_row(replace(failure, attempts=attempts), key, self._command)
            self._known[failure.subject, failure.step, key] = row
            self._failed_now.add((failure.subject, key))
            self.failures.append(failure)
            rows.append(row)
        self.dataset.failures.publish(rows)
