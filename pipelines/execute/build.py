"""The executor of a configuration."""

from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.execute.base import ExecuteConfig, Executor
from pipelines.execute.local import LocalExecutor
from pipelines.monitor.prometheus import served


@contextmanager
def open_executor(config: ExecuteConfig) -> Iterator[Executor]:
    """The executor of the configuration. If it starts a private Ray, that ends with the block."""
    with served(config) as sinks:
        if config.executor == "local":
            yield LocalExecutor(config.num_workers, sinks)
            return
        from pipelines.execute.ray_data import RayExecutor

        on_ray = RayExecutor(config, sinks)
        try:
            yield on_ray
        finally:
            on_ray.close()
