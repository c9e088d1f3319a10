"""Stages on Ray Data: actor pools, streaming with back-pressure, on one machine or a cluster.

Ray restarts a worker that died and runs its task again, without a limit, and does not tell which item killed it. One
item must cost neither the run nor its neighbours. Items therefore travel in chunks, and a ledger counts how often each
chunk was begun (`pipelines.execute.ray_worker`). A chunk that was begun before has killed a worker. A chunk of one
item is retried and finally given up; a chunk of several comes back undone. Items without an outcome after a pass are
in the next pass, each in a chunk of its own.
"""

import logging
import pickle
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
import ray.data
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from curate.stage import Stage
from pipelines.execute.base import ExecuteConfig, Resources
from pipelines.execute.ray_cluster import connect
from pipelines.execute.ray_worker import Ledger, Stopped, Worker, read_report
from pipelines.monitor.metrics import ItemMetrics, Sink
from pipelines.monitor.on_ray import RaySink

MAX_CHUNK = 256
"""Most batches in a chunk, which is the most that a dead worker leaves to the next pass."""
GROWN_CLUSTER = 64
"""Workers that chunks are made for on a growing cluster without `execute.num_workers`."""


class RayExecutor:
    """Runs a stage as an actor pool of Ray Data. `sinks`: where else, than to Ray, metrics of the items go."""

    def __init__(self, config: ExecuteConfig, sinks: Sequence[Sink] = ()) -> None:
        self.config = config
        self._sinks: Sequence[Sink] = (RaySink(), *sinks)
        self._connected_here = self._is_private = False
        self._ledger: Any = None
        self._num_runs = 0
        self._asking = threading.Lock()
        self._asked: Any = None
        self._under_way: Mapping[str, float] = {}

    def run(self, stage: Stage[Any, Any], items: Sequence[Any], resources: Resources) -> Iterator[tuple[Any, Any]]:
        if not items:
            return iter(())
        self._connect()  # now: Ray's own lines come before the progress line
        self._num_runs += 1
        return self._outcomes(stage, items, resources, self._pool(resources))

    def under_way(self) -> Mapping[str, float]:
        """The ledger's last answer; this does not wait for the next one."""
        with self._asking:
            if self._ledger is None:
                return {}
            if self._asked is not None and ray.wait([self._asked], timeout=0)[0]:
                with suppress(ray.exceptions.RayError):  # the ledger restarts
                    self._under_way = ray.get(self._asked)
                self._asked = None
            if self._asked is None:
                self._asked = self._ledger.under_way.remote()
            return self._under_way

    def _outcomes(
        self, stage: Stage[Any, Any], items: Sequence[Any], resources: Resources, pool: "Pool"
    ) -> Iterator[tuple[Any, Any]]:
        shown = ItemMetrics(self._sinks, stage.step, len(items))
        pending: Sequence[int] = range(len(items))
        sizes = guided_chunks(len(items), resources.batch_size, pool.for_chunks)
        while pending:
            had: set[int] = set()
            for index, outcome in self._one_pass(stage, items, pending, sizes, resources, pool):
                if index not in had:
                    had.add(index)
                    shown.count(outcome)
                    yield items[index], outcome
            if not had and max(sizes) == 1:
                raise RuntimeError(f"{stage.step}: Ray gave no outcome for any of {len(pending)} items, and no error")
            pending = [index for index in pending if index not in had]
            sizes = [1] * len(pending)

    def _one_pass(
        self,
        stage: Stage[Any, Any],
        items: Sequence[Any],
        pending: Sequence[int],
        sizes: Sequence[int],
        resources: Resources,
        pool: "Pool",
    ) -> Iterator[tuple[int, Any]]:
        """Index and outcome of the pending items, as they arrive; some may be missing."""
        rows, at = [], 0
        for size in sizes:
            chunk = pending[at : at + size]
            key = f"run {self._num_runs}: {size} from {chunk[0]}"
            rows.append({"at": at, "key": key, "items": pickle.dumps([items[index] for index in chunk])})
            at += size
        dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            Worker,
            fn_constructor_args=(pickle.dumps(stage), self._ledger, resources.batch_size, self.config),
            batch_size=1,
            batch_format="pyarrow",
            compute=pool.strategy(len(rows)),
            num_cpus=resources.num_cpus,
            num_gpus=resources.num_gpus or None,
        )
        for block in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for report in block.to_pylist():
                for place, outcome in enumerate(read_report(report), report["at"]):
                    if isinstance(outcome, Stopped):
                        raise outcome.error
                    yield pending[place], outcome

    def _connect(self) -> None:
        """Join or start Ray at the first item. A run that finds all results stored does not need it."""
        if not ray.is_initialized():
            self._connected_here, self._is_private = True, connect(self.config)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        # Each report of a worker stays a block of its own.
        context.target_max_block_size = 1
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        if self._ledger is None:
            here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
            options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": here}
            self._ledger = ray.remote(Ledger).options(**options).remote()

    def close(self) -> None:
        """Leave the cluster that was joined here, which ends a private Ray."""
        with self._asking:
            self._ledger = self._asked = None
        if self._connected_here:
            ray.shutdown()
            self._connected_here = self._is_private = False

    def _pool(self, resources: Resources) -> "Pool":
        available = ray.cluster_resources()
        fits = int(available.get("CPU", 0) // resources.num_cpus)
        if resources.num_gpus:
            fits = min(fits, int(available.get("GPU", 0) // resources.num_gpus))
        if self._is_private and not fits:
            raise ValueError(
                f"a worker asks for {resources.num_cpus:g} CPUs and {resources.num_gpus:g} GPUs, this machine has "
                f"{available.get('CPU', 0):g} and {available.get('GPU', 0):g}; lower execute.gpus_per_worker"
            )
        return Pool(fits=max(1, fits), may_grow=not self._is_private, limit=self.config.num_workers)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pool:
    """How many workers a stage gets. On one machine: as many as fit. On a cluster that may grow: `limit` of them at
    once; without a limit, as many as fit now, and more as Ray Data decides, up to one per chunk."""

    fits: int
    may_grow: bool
    limit: int | None

    @property
    def for_chunks(self) -> int:
        """Number of workers that the chunks must keep busy."""
        if self.may_grow:
            return self.limit or max(self.fits, GROWN_CLUSTER)
        return min(self.fits, self.limit or self.fits)

    def strategy(self, num_chunks: int) -> ray.data.ActorPoolStrategy:
        if self.may_grow and self.limit is None:
            return ray.data.ActorPoolStrategy(min_size=min(self.fits, num_chunks), max_size=num_chunks)
        # A chunk does not wait behind a long one while another worker is idle.
        return ray.data.ActorPoolStrategy(size=min(self.for_chunks, num_chunks), max_tasks_in_flight_per_actor=1)


def guided_chunks(num_items: int, batch_size: int, num_workers: int) -> list[int]:
    """Sizes of the chunks, in order, in whole batches. Large chunks come first to keep their number low, small ones
    last to let all workers end together. Guided self-scheduling (Polychronopoulos and Kuck,
    1987, section 3) with two chunks per worker in each round."""
    sizes, left = [], num_items
    while left:
        num_batches = -(-left // batch_size)
        size = min(left, batch_size * min(MAX_CHUNK, max(1, num_batches // (2 * num_workers))))
        sizes.append(size)
        left -= size
    return sizes
