"""Stages in this process."""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from curate.daemon_threads import DaemonPool
from curate.media.counter import counts, counts_here
from curate.stage import Stage
from curate.threads import import_decoders
from pipelines.execute.base import Resources, batches, batches_ahead, process_batch, since
from pipelines.monitor.metrics import ItemMetrics, MediaMetrics, Sink


class LocalExecutor:
    """Runs a stage in this process: for tests, one small machine, a GPU machine. A crash in native code ends the run,
    and a rerun crashes again; on Ray only the item fails.

    Args:
        num_workers: Threads of a stage that can run in threads; None: one per CPU.
        sinks: Where metrics of the work go.
    """

    def __init__(self, num_workers: int | None = None, sinks: Sequence[Sink] = ()) -> None:
        self.num_workers = num_workers or len(os.sched_getaffinity(0))
        self._sinks = sinks
        self._before = counts()

    def run(self, stage: Stage[Any, Any], items: Sequence[Any], resources: Resources) -> Iterator[tuple[Any, Any]]:
        results = self._run(stage, items, resources)
        if not self._sinks:
            yield from results
            return
        shown, media = ItemMetrics(self._sinks, stage.step, len(items)), MediaMetrics(self._sinks, stage.step)
        for item, outcome in results:
            shown.count(outcome)
            media.send()
            yield item, outcome

    def _run(self, stage: Stage[Any, Any], items: Sequence[Any], resources: Resources) -> Iterator[tuple[Any, Any]]:
        if items:
            stage.setup()
        if resources.in_threads and self.num_workers > 1 and len(items) > 1:
            yield from self._in_threads(stage, batches(items, resources.batch_size))
            return
        for batch in batches_ahead(stage, items, resources.batch_size):
            self._before = counts()
            outcomes = process_batch(stage, batch)
            self._before = counts()
            yield from zip(batch, outcomes, strict=True)

    def under_way(self) -> Mapping[str, float]:
        return since(self._before)

    def _in_threads(self, stage: Stage[Any, Any], work: Iterator[list[Any]]) -> Iterator[tuple[Any, Any]]:
        import_decoders()
        self._before = counts()
        pool, running = DaemonPool(self.num_workers, "worker"), set[Future[_Done]]()
        try:
            for batch in work:
                running.add(pool.submit(_process, stage, batch))
                if len(running) == self.num_workers:
                    yield from self._ended(running)
            while running:
                yield from self._ended(running)
        except Exception:
            wait(running)  # an interruption waits for nothing
            raise

    def _ended(self, running: "set[Future[_Done]]") -> Iterator[tuple[Any, Any]]:
        """Wait for some of what is running, and take it out."""
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        running -= done
        for future in done:
            batch, outcomes, amounts = future.result()
            self._before = {name: number + amounts[name] for name, number in self._before.items()}
            yield from zip(batch, outcomes, strict=True)


_Done = tuple[list[Any], list[Any], dict[str, float]]
"""A batch, its outcomes, and the amounts that the thread counted."""


def _process(stage: Stage[Any, Any], batch: list[Any]) -> _Done:
    before = counts_here()
    outcomes = process_batch(stage, batch)
    return batch, outcomes, {name: number - before[name] for name, number in counts_here().items()}
