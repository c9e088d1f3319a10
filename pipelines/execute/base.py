"""How stages are run: in this process, or on Ray Data. Both give equal outcomes, in an order that may differ.

A stage is any object with the methods of `curate.stage.Stage`.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from curate.media.counter import counts
from curate.media.staging import StagingConfig
from curate.schema import FailureKind
from curate.stage import Prefetching, Stage


class ExecuteConfig(BaseModel):
    """How stages are run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    executor: Literal["ray", "local"] = Field("ray", description="Ray Data, or in this process")
    address: str | None = Field(
        None, description="Ray cluster to join; none: the cluster of RAY_ADDRESS, else a private Ray on this machine"
    )
    num_cpus: int | None = Field(None, ge=1, description="CPUs of the private Ray; none: all of this machine")
    num_workers: int | None = Field(
        None,
        ge=1,
        description="workers of a stage; one machine starts as many as fit, a cluster all; none: one per CPU (GPU); "
        "without Ray, threads of what can run in threads",
    )
    gpus_per_worker: float = Field(0, ge=0, description="GPU share of each worker of a stage that runs a model")
    publish_every_s: float = Field(
        30, gt=0, description="seconds between published parts, which is the most work that a kill loses"
    )
    max_attempts: int = Field(
        3, ge=1, description="on Ray: workers that die on an item before it fails as worker_died"
    )
    item_limit_s: float | None = Field(
        6 * 3600,
        gt=0,
        description="on Ray: seconds on one item until its worker is killed and the item retried; null: no limit",
    )
    metrics_port: int | None = Field(
        None, ge=1, le=65535, description="port that this process serves Prometheus metrics on; none: it serves none"
    )
    metrics_host: str = Field("127.0.0.1", description="address that the metrics are served on")
    staging: StagingConfig = Field(StagingConfig(), description="local copies of remote inputs")


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources:
    """What one worker of a stage takes.

    Attributes:
        batch_size: Items that `process` gets at a time.
        num_cpus: CPUs.
        num_gpus: Share of a GPU.
        in_threads: In this process, `process` may run in several threads on one object: it keeps no state, and its
            work is done by native code that leaves the interpreter's lock.
    """

    batch_size: int = 1
    num_cpus: float = 1
    num_gpus: float = 0
    in_threads: bool = False


class Executor(Protocol):
    def run(self, stage: Stage[Any, Any], items: Sequence[Any], resources: Resources) -> Iterator[tuple[Any, Any]]:
        """Yield `(item, outcome)` once for every item, as the outcomes come."""
        ...

    def under_way(self) -> Mapping[str, float]:
        """Amounts done on items that have no outcome yet, by unit of `curate.media.counter`. Safe in any thread."""
        ...


def since(before: Mapping[str, float]) -> dict[str, float]:
    """Amounts that this process has done since `counts` returned `before`."""
    return {name: number - before[name] for name, number in counts().items()}


def process_batch(stage: Stage[Any, Any], items: Sequence[Any]) -> list[Any]:
    """The stage's outcomes of a batch. If the batch raises, each item is processed alone. An item that raises alone is
    given up as MODEL, so one bad file does not lose the others.

    Raises:
        OSError, ImportError: a run-level error: the disk is full, a package is missing.
        RuntimeError: torch's AcceleratorError: this process can no longer use its GPU.
    """
    try:
        outcomes = list(stage.process(items))
    except (OSError, ImportError, AssertionError):
        raise
    except Exception as error:
        if is_lost_device(error):
            raise
        if len(items) > 1:
            return [outcome for item in items for outcome in process_batch(stage, [item])]
        outcomes = [stage.give_up(items[0], FailureKind.MODEL, f"{type(error).__name__}: {error}", 1)]
    assert len(outcomes) == len(items), f"{stage.step} gave {len(outcomes)} outcomes for {len(items)} items"
    return outcomes


def is_lost_device(error: BaseException) -> bool:
    """Whether the error destroyed the CUDA context of this process, which must end."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(error, torch.AcceleratorError)


def batches(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])


def batches_ahead(stage: Stage[Any, Any], items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    """The batches; a stage that can prefetch gets a batch and the next one before it processes the first."""
    prefetch = stage.prefetch if isinstance(stage, Prefetching) else None
    batch: list[Any] = []
    for following in batches(items, size):
        if prefetch is not None:
            prefetch(following)
        if batch:
            yield batch
        batch = following
    if batch:
        yield batch
