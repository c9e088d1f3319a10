"""Metrics through Ray, which shows them on its dashboard and to Prometheus, from any process of a cluster."""

from collections.abc import Mapping
from typing import Any

from ray.util import metrics

from pipelines.monitor.metrics import METRICS


class RaySink:
    """Metrics that this process hands to Ray. It has those that it has used."""

    def __init__(self) -> None:
        self._metrics: dict[str, Any] = {}

    def add(self, name: str, amount: float, labels: Mapping[str, str]) -> None:
        if amount:  # Ray takes no zero
            self._metric(name).inc(amount, dict(labels))

    def set(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        self._metric(name).set(value, dict(labels))

    def _metric(self, name: str) -> Any:
        if name not in self._metrics:
            metric = METRICS[name]
            kind = metrics.Counter if metric.kind == "counter" else metrics.Gauge
            self._metrics[name] = kind(name, metric.help, metric.labels)
        return self._metrics[name]
