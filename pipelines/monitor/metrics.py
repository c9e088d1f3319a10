"""What monitoring sees of a run: the metrics by name, and how results of steps and rows of a training become them.

Names and units are those of Prometheus: seconds and bytes, ratios from 0 to 1. A counter gets `_total` at its end
where it is shown, and what Ray shows begins with `ray_`.
"""

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, Protocol

from curate.media.counter import counts
from curate.schema import Failure

EVERY_S = 1.0
"""Least time between two updates of a step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    kind: Literal["counter", "gauge"]
    help: str
    labels: tuple[str, ...]


def _counter(help: str, *labels: str) -> Metric:
    return Metric(kind="counter", help=help, labels=labels)


def _gauge(help: str, *labels: str) -> Metric:
    return Metric(kind="gauge", help=help, labels=labels)


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "reelpack_items": _counter("items that have an outcome: `ok`, or the kind of failure", "step", "outcome"),
        "reelpack_items_left": _gauge("items that have no outcome yet", "step"),
        "reelpack_video_seconds": _counter("seconds of video that were decoded", "step"),
        "reelpack_decoded_frames": _counter("frames that decoders returned", "step"),
        "reelpack_read_bytes": _counter("bytes of inputs that were read from their start to their end", "step"),
        "reelpack_written_bytes": _counter("bytes of published files", "step"),
        "reelpack_train_steps": _counter("optimizer steps of this process", "run"),
        "reelpack_train_skipped_steps": _counter("steps without an update: a loss or gradient was no number", "run"),
        "reelpack_train_samples": _counter("samples that were trained on", "run"),
        "reelpack_train_tokens": _counter("tokens that were trained on", "run"),
        "reelpack_train_seconds": _counter("seconds of steps", "run"),
        "reelpack_train_loader_wait_seconds": _counter("seconds of steps that waited for their packs", "run"),
        "reelpack_train_checkpoint_stall_seconds": _counter("seconds that steps waited for a checkpoint", "run"),
        "reelpack_train_step": _gauge("number of the last step", "run"),
        "reelpack_train_loss": _gauge("loss of the last step", "run"),
        "reelpack_train_val_loss": _gauge("held-out loss of the last evaluation", "run"),
        "reelpack_train_grad_norm": _gauge("norm of the gradient in the last step", "run"),
        "reelpack_train_mfu_ratio": _gauge("model FLOPs of the last step by what the devices can do", "run"),
        "reelpack_train_token_efficiency_ratio": _gauge("tokens of the last step by those that its packs hold", "run"),
        "reelpack_train_memory_bytes": _gauge("most memory of a rank so far", "run"),
    }
)
"""All of them by name, without `_total` and `ray_`."""

MEDIA = MappingProxyType(
    {
        "seconds": "reelpack_video_seconds",
        "decoded_frames": "reelpack_decoded_frames",
        "bytes": "reelpack_read_bytes",
        "written_bytes": "reelpack_written_bytes",
    }
)
"""Units of `curate.media.counter` and their metrics."""

_OF_STEPS = MappingProxyType(
    {
        "samples": "reelpack_train_samples",
        "tokens": "reelpack_train_tokens",
        "seconds": "reelpack_train_seconds",
        "loader_wait_s": "reelpack_train_loader_wait_seconds",
        "checkpoint_stall_s": "reelpack_train_checkpoint_stall_seconds",
        "skipped": "reelpack_train_skipped_steps",
    }
)
_OF_LAST_STEP = MappingProxyType(
    {
        "step": "reelpack_train_step",
        "loss": "reelpack_train_loss",
        "grad_norm": "reelpack_train_grad_norm",
        "mfu": "reelpack_train_mfu_ratio",
        "token_efficiency": "reelpack_train_token_efficiency_ratio",
    }
)


class Sink(Protocol):
    """Where metrics go, by their names in `METRICS`."""

    def add(self, name: str, amount: float, labels: Mapping[str, str]) -> None:
        """Count."""
        ...

    def set(self, name: str, value: float, labels: Mapping[str, str]) -> None: ...


class ItemMetrics:
    """Counts the outcomes of a step.

    Args:
        sinks: where to.
        step: name of the step.
        num_items: that have no outcome yet.
    """

    def __init__(self, sinks: Sequence[Sink], step: str, num_items: int) -> None:
        self._sinks, self._labels = sinks, {"step": step}
        self._num_left = num_items
        self._waiting: Counter[str] = Counter()
        self.send()

    def count(self, outcome: Any) -> None:
        self._waiting[outcome.kind if isinstance(outcome, Failure) else "ok"] += 1
        self._num_left -= 1
        if not self._num_left or time.monotonic() - self._sent_s > EVERY_S:
            self.send()

    def send(self) -> None:
        for sink in self._sinks:
            for outcome, num_items in self._waiting.items():
                sink.add("reelpack_items", num_items, {**self._labels, "outcome": outcome})
            sink.set("reelpack_items_left", self._num_left, self._labels)
        self._waiting.clear()
        self._sent_s = time.monotonic()


class MediaMetrics:
    """Counts what this process decodes, reads and writes for a step."""

    def __init__(self, sinks: Sequence[Sink], step: str) -> None:
        self._sinks, self._labels = sinks, {"step": step}
        self._sent = counts()

    def send(self) -> None:
        """Count what was done since the last call."""
        now = counts()
        for unit, name in MEDIA.items():
            if amount := now[unit] - self._sent[unit]:
                for sink in self._sinks:
                    sink.add(name, amount, self._labels)
        self._sent = now


class TrainMetrics:
    """Counts the rows that a training logs.

    Args:
        sinks: where to.
        out: the run, a path or a URL; its last part is the label `run`.
    """

    def __init__(self, sinks: Sequence[Sink], out: str) -> None:
        self._sinks, self._labels = sinks, {"run": out.rstrip("/").rpartition("/")[2]}

    def count(self, row: Mapping[str, Any]) -> None:
        """A row of a step, or of an evaluation."""
        for sink in self._sinks:
            if "loss" in row:
                self._count_step(sink, row)
            elif row.get("val_loss") is not None:
                sink.set("reelpack_train_val_loss", row["val_loss"], self._labels)

    def _count_step(self, sink: Sink, row: Mapping[str, Any]) -> None:
        sink.add("reelpack_train_steps", 1, self._labels)
        for key, name in _OF_STEPS.items():
            if key in row:  # an autoencoder has no tokens
                sink.add(name, row[key], self._labels)
        for key, name in _OF_LAST_STEP.items():
            if row.get(key) is not None and math.isfinite(row[key]):
                sink.set(name, row[key], self._labels)
        if "memory_gib" in row:
            sink.set("reelpack_train_memory_bytes", row["memory_gib"] * 2**30, self._labels)
