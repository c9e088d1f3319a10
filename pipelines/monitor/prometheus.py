"""Metrics of this process, served for Prometheus over HTTP."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pipelines.execute.base import ExecuteConfig
from pipelines.monitor.metrics import METRICS, Sink


class PrometheusSink:
    """Metrics in a registry of their own: nothing of the process itself is shown."""

    def __init__(self) -> None:
        import prometheus_client

        prometheus_client.disable_created_metrics()
        self.registry = prometheus_client.CollectorRegistry()
        kinds = {"counter": prometheus_client.Counter, "gauge": prometheus_client.Gauge}
        self._metrics: dict[str, Any] = {
            name: kinds[metric.kind](name, metric.help, metric.labels, registry=self.registry)
            for name, metric in METRICS.items()
        }

    def add(self, name: str, amount: float, labels: Mapping[str, str]) -> None:
        self._metrics[name].labels(**labels).inc(amount)

    def set(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        self._metrics[name].labels(**labels).set(value)


@contextmanager
def served(config: ExecuteConfig) -> Iterator[tuple[Sink, ...]]:
    """Serve for the length of the block, where the configuration names a port; yields where metrics go.

    Raises:
        ValueError: nothing can listen there.
        ImportError: prometheus_client is not installed.
    """
    if config.metrics_port is None:
        yield ()
        return
    import prometheus_client

    sink, where = PrometheusSink(), f"{config.metrics_host}:{config.metrics_port}"
    try:
        server, thread = prometheus_client.start_http_server(
            config.metrics_port, config.metrics_host, registry=sink.registry
        )
    except OSError as error:
        raise ValueError(
            f"execute.metrics_port={config.metrics_port}: {where} cannot be listened on ({error.strerror or error}); "
            "take a free port, and an address of this machine as execute.metrics_host"
        ) from error
    try:
        yield (sink,)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
