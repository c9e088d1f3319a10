"""Stages in this process."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from curate.media.counter import counts
from curate.stage import Stage
from pipelines.execute.base import Resources, batches_ahead, process_batch, since


class LocalExecutor:
    """Runs a stage in this process: for tests, one small machine, a GPU machine. A crash in native code ends the run,
    and a rerun crashes again; on Ray only the item fails."""

    def __init__(self) -> None:
        self._before = counts()

    def run(self, stage: Stage[Any, Any], items: Sequence[Any], resources: Resources) -> Iterator[tuple[Any, Any]]:
        if items:
            stage.setup()
        for batch in batches_ahead(stage, items, resources.batch_size):
            self._before = counts()
            outcomes = process_batch(stage, batch)
            self._before = counts()
            yield from zip(batch, outcomes, strict=True)

    def under_way(self) -> Mapping[str, float]:
        return since(self._before)
