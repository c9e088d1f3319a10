"""A stage with the items that have no result yet: run, and handed out in portions to be published."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from curate.dataset.dataset import Dataset
from curate.schema import Failure
from curate.stage import Stage
from pipelines.console.progress import ITEMS, Line, Unit, counted, tracked
from pipelines.execute.base import Executor, Resources

Results = list[tuple[Any, Any]]
"""Items with their outcomes, failures among them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What runs on which items.

    Attributes:
        resources: Of each worker.
        name: Of the progress line, which measures in `unit`; `amount` is that of an item.
        line: A line that is shown already, of which these items are a part; None: they get their own.
        seen: Is given each result as it comes.
    """

    stage: Stage[Any, Any]
    items: Sequence[Any]
    resources: Resources
    name: str
    unit: Unit = ITEMS
    amount: Callable[[Any], float] = lambda _: 1.0
    line: Line | None = None
    seen: Callable[[Any], None] = lambda _: None


def finished(dataset: Dataset, executor: Executor, work: Work, every_s: float) -> Iterator[Results]:
    """Run the work; yields the results since the last time, every `every_s` seconds (0: each result alone) and at the
    end. The caller publishes them: this process is still the writer of the dataset then.

    Raises:
        LeaseLost: another process may write this part of the dataset by now.
    """
    results: Results = []
    last = time.monotonic()
    for result in _results(executor, work):
        results.append(result)
        work.seen(result[1])
        if time.monotonic() - last >= every_s:
            dataset.check_writer()
            yield results
            results, last = [], time.monotonic()
    dataset.check_writer()
    if results:
        yield results


def _results(executor: Executor, work: Work) -> Iterator[tuple[Any, Any]]:
    if work.line is None:
        return tracked(executor, work.stage, work.items, work.resources, work.name, work.unit, work.amount)
    results = executor.run(work.stage, work.items, work.resources)
    return counted(results, work.line, lambda result: work.amount(result[0]))


def failures_of(results: Results) -> list[Failure]:
    return [outcome for _, outcome in results if isinstance(outcome, Failure)]


def values_of(results: Results) -> list[Any]:
    """The outcomes that are no failures."""
    return [outcome for _, outcome in results if not isinstance(outcome, Failure)]
