"""What runs in a worker of Ray Data: a stage under a watchdog, and the ledger that outlives the worker."""

import faulthandler
import io
import os
import pickle
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray

from curate.media.counter import counts
from curate.schema import FailureKind
from curate.terminal import leave_terminal
from pipelines.execute.base import ExecuteConfig, batches_ahead, is_lost_device, process_batch, since
from pipelines.monitor.metrics import MediaMetrics
from pipelines.monitor.on_ray import RaySink

REPORT_EVERY_S = 2.0
REPORT_BYTES = 16 * 2**20
"""A worker reports its outcomes after this time, or when they take this much memory."""
MOVE_EVERY_S = 2.0
"""Seconds between two messages about progress to the ledger."""
SLACK_S = 1.0
"""Minimum seconds between re-arming the watchdog, and its tolerance."""
SEE_LOGS = "the worker logs of Ray show the last output"


class Ledger:
    """An actor that counts how often unfinished work was begun, which tells the next worker of earlier deaths. It also
    keeps the progress of all workers."""

    def __init__(self) -> None:
        self._begun: dict[str, list[tuple[str, float]]] = {}
        self._under_way: dict[str, Mapping[str, float]] = {}

    def begin(self, key: str, node: str) -> tuple[int, float]:
        """Begin work on a node.

        Returns:
            The number of workers that died on this work, and the seconds since the last of them began. A worker that
            was lost with its node is not counted.
        """
        now = time.monotonic()
        earlier = self._begun.setdefault(key, [])
        alive = {info["NodeID"] for info in ray.nodes() if info["Alive"]} if earlier else set()
        num_deaths = sum(node in alive for node, _ in earlier)
        since_s = now - earlier[-1][1] if earlier else 0.0
        earlier.append((node, now))
        return num_deaths, since_s

    def end(self, key: str) -> None:
        self._begun.pop(key, None)

    def move(self, worker: str, amounts: Mapping[str, float]) -> None:
        """Store the amounts that a worker has done and not reported yet."""
        self._under_way[worker] = amounts

    def under_way(self) -> dict[str, float]:
        """Those amounts, summed over the workers."""
        totals: Counter[str] = Counter()
        for amounts in self._under_way.values():
            totals.update(amounts)
        return dict(totals)


@dataclass(frozen=True, slots=True)
class Stopped:
    """In place of the outcomes of a chunk: a run-level error, such as an unwritable output or missing weights."""

    error: Exception

    @classmethod
    def by(cls, error: Exception) -> "Stopped":
        error.add_note(f"In the worker:\n{''.join(traceback.format_exception(error))}")
        try:
            pickle.loads(pickle.dumps(error))
        except Exception as unpicklable:  # __reduce__ may raise anything
            return cls(RuntimeError(f"{type(error).__name__}: {error} ({unpicklable})"))
        return cls(error)


class Worker:
    """The actor: one stage, set up once. Items and outcomes are pickled, since Arrow has no type for them."""

    def __init__(self, stage: bytes, ledger: Any, batch_size: int, config: ExecuteConfig) -> None:
        leave_terminal()
        self.stage = pickle.loads(stage)
        self.ledger = ledger
        self.batch_size = batch_size
        self.max_attempts = config.max_attempts
        self.watchdog = _Watchdog(config.item_limit_s)
        self.is_set_up = False
        self.unreported = counts()
        self.media = MediaMetrics((RaySink(),), self.stage.step)
        threading.Thread(target=self._move, name="progress", daemon=True).start()

    def __call__(self, rows: pa.Table) -> Iterator[pa.Table]:
        [row] = rows.to_pylist()
        at, key, items = row["at"], row["key"], pickle.loads(row["items"])
        try:
            self._set_up()
            num_deaths, since_s = self._begin(key)
            if not num_deaths:
                yield from self._work(at, items)
            elif len(items) == 1:
                yield from self._work_again(at, items[0], num_deaths, since_s)
            else:
                # Undone. Ray Data fails on a task that yields fewer reports when it runs again.
                yield from (_report(at, b"") for _ in range(len(items) + 1))
            self.ledger.end.remote(key)
        except Exception as error:  # as a value: Ray would pass only a text about it to the driver
            if is_lost_device(error):
                traceback.print_exc()
                os._exit(1)  # the next process gets a new CUDA context; the ledger bounds the attempts
            yield _report(at, pickle.dumps([Stopped.by(error)]))

    def _move(self) -> None:
        """Tell the ledger the progress of this worker, every `MOVE_EVERY_S`."""
        me, told = ray.get_runtime_context().get_actor_id(), dict[str, float]()
        while True:
            time.sleep(MOVE_EVERY_S)
            if (amounts := since(self.unreported)) != told:
                self.ledger.move.remote(me, amounts)
                told = amounts

    def _set_up(self) -> None:
        if self.is_set_up:
            return
        key = f"set up {ray.get_runtime_context().get_actor_id()}"
        num_deaths, _ = self._begin(key)
        if num_deaths >= self.max_attempts:
            raise RuntimeError(f"{self.stage.step}: {num_deaths} workers died during set-up; {SEE_LOGS}")
        self.stage.setup()
        self.ledger.end.remote(key)
        self.is_set_up = True

    def _begin(self, key: str) -> tuple[int, float]:
        return ray.get(self.ledger.begin.remote(key, ray.get_runtime_context().get_node_id()))

    def _work(self, at: int, items: Sequence[Any]) -> Iterator[pa.Table]:
        """Reports with the outcomes of items; `at` is the position of the first."""
        buffer, last, num_done, first = io.BytesIO(), time.monotonic(), 0, at
        self.unreported = counts()
        for batch in batches_ahead(self.stage, items, self.batch_size):
            self.watchdog.arm(len(batch))
            pickle.dump(process_batch(self.stage, batch), buffer)
            num_done += len(batch)
            is_late = time.monotonic() - last > REPORT_EVERY_S or buffer.tell() > REPORT_BYTES
            if is_late or num_done == len(items):
                self.watchdog.disarm()  # until the driver takes the report
                self.unreported = counts()
                self.media.send()
                yield _report(first, buffer.getvalue())
                buffer, last, first = io.BytesIO(), time.monotonic(), at + num_done

    def _work_again(self, at: int, item: Any, num_deaths: int, since_s: float) -> Iterator[pa.Table]:
        """The outcome of an item on which workers died; after `max_attempts` it is given up."""
        limit_s = self.watchdog.limit_s
        is_hung = limit_s is not None and since_s >= limit_s
        if num_deaths > 2 * self.max_attempts:
            raise RuntimeError(f"{self.stage.step}: workers die while they give up an item; {SEE_LOGS}")
        if is_hung:
            kind, detail = FailureKind.TIMEOUT, f"it took longer than {limit_s:g} s (execute.item_limit_s)"
        elif num_deaths >= self.max_attempts:
            kind, detail = FailureKind.WORKER_DIED, f"{num_deaths} workers died on it; {SEE_LOGS}"
        else:
            yield from self._work(at, [item])
            return
        yield _report(at, pickle.dumps([self.stage.give_up(item, kind, detail, num_deaths)]))


class _Watchdog:
    """Ends this process when a batch takes too long. A thread in C does it, which runs even while native code holds
    the GIL; it writes the stacks of all threads to the worker's log."""

    def __init__(self, limit_s: float | None) -> None:
        self.limit_s = limit_s
        self._armed_s: float | None = None

    def arm(self, num_items: int) -> None:
        now_s = time.monotonic()
        if self.limit_s is None or (self._armed_s is not None and now_s - self._armed_s < SLACK_S):
            return
        faulthandler.dump_traceback_later(self.limit_s * num_items + SLACK_S, exit=True)
        self._armed_s = now_s

    def disarm(self) -> None:
        if self._armed_s is not None:
            faulthandler.cancel_dump_traceback_later()
            self._armed_s = None


def _report(at: int, outcomes: bytes) -> pa.Table:
    """A row for the driver: pickled lists of outcomes, one after another, of the items from position `at`."""
    return pa.table({"at": [at], "outcomes": pa.array([outcomes], pa.large_binary())})


def read_report(report: Mapping[str, Any]) -> Iterator[Any]:
    """The outcomes in a row that `_report` made."""
    lists = report["outcomes"]
    stream = io.BytesIO(lists)
    while stream.tell() < len(lists):
        yield from pickle.load(stream)
