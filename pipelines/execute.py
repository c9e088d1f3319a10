"""How stages are run: in this process, or on Ray Data. Both give the same outcomes; only their order may differ.

A stage is any object with the methods of `Stage`. It neither knows nor imports what runs it.
"""

import logging
import math
import os
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from curate.schema import Failure

MAX_BLOCKS = 4096
"""Most blocks that the items are dealt into: Ray Data schedules, and retries, by the block."""
STORE_BYTES = 256 * 2**20
"""Object store of a private Ray: items and outcomes are small rows, frames never travel."""

In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)


class ExecuteConfig(BaseModel):
    """How stages are run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    executor: Literal["ray", "local"] = Field("ray", description="Ray Data, or in this process")
    address: str | None = Field(
        None, description="Ray cluster to join; none: the cluster of RAY_ADDRESS, else a private Ray on this machine"
    )
    num_cpus: int | None = Field(None, ge=1, description="CPUs of the private Ray; none: all of this machine")
    num_workers: int | None = Field(None, ge=1, description="most workers of a stage; none: one per CPU (GPU)")
    gpus_per_worker: float = Field(0, ge=0, description="GPU share of each worker of a stage that runs a model")
    publish_every_s: float = Field(30, gt=0, description="seconds between parts: what a kill can lose")


class Stage(Protocol[In, Out]):
    """Work on items: cheap picklable constructor, `setup` once per worker, one outcome per item in order."""

    def setup(self) -> None: ...

    def process(self, items: Sequence[In]) -> Sequence[Out | Failure]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Needs:
    """What one worker of a stage takes: CPUs, a share of a GPU, and how many items it is handed at a time."""

    batch_size: int = 1
    num_cpus: float = 1
    num_gpus: float = 0


class Executor(Protocol):
    def run(self, stage: Stage[Any, Any], items: Sequence[Any], needs: Needs) -> Iterator[tuple[Any, Any]]:
        """Yield `(item, outcome)` for every item, as the outcomes come."""
        ...


class LocalExecutor:
    """Runs a stage in this process: for tests, for one small machine, for a GPU box."""

    def run(self, stage: Stage[Any, Any], items: Sequence[Any], needs: Needs) -> Iterator[tuple[Any, Any]]:
        if items:
            stage.setup()
        for batch in batches(items, needs.batch_size):
            yield from zip(batch, stage.process(batch), strict=True)


class RayExecutor:
    """Runs a stage as an actor pool of Ray Data: streaming, with back-pressure, on one machine or a cluster."""

    def __init__(self, config: ExecuteConfig) -> None:
        self.config = config
        self._connected_here = self._is_private = False

    def run(self, stage: Stage[Any, Any], items: Sequence[Any], needs: Needs) -> Iterator[tuple[Any, Any]]:
        if not items:
            return
        import ray.data

        self._connect()
        num_batches = math.ceil(len(items) / needs.batch_size)
        rows = [{"item": pickle.dumps(item)} for item in items]
        dataset = ray.data.from_items(rows, override_num_blocks=min(num_batches, MAX_BLOCKS)).map_batches(
            _Worker,
            fn_constructor_args=(pickle.dumps(stage),),
            batch_size=needs.batch_size,
            compute=self._pool(needs, num_batches),
            num_cpus=needs.num_cpus,
            num_gpus=needs.num_gpus or None,
        )
        for batch in dataset.iter_batches(batch_size=None, batch_format="numpy"):
            for item, outcome in zip(batch["item"], batch["outcome"], strict=True):
                result = pickle.loads(outcome)
                if isinstance(result, _Stopped):
                    raise result.error
                yield pickle.loads(item), result

    def _connect(self) -> None:
        """Join or start Ray at the first item: a run that finds everything stored needs none."""
        import ray
        import ray.data

        if not ray.is_initialized():
            self._connected_here, self._is_private = True, connect(self.config)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)

    def close(self) -> None:
        """Leave the cluster that was joined here; a private Ray ends with that."""
        if self._connected_here:
            import ray

            ray.shutdown()
            self._connected_here = self._is_private = False

    def _pool(self, needs: Needs, num_batches: int) -> Any:
        """As many workers as fit now; on a cluster, which may grow, up to one per batch (or `num_workers`)."""
        import ray
        import ray.data

        available = ray.cluster_resources()
        fits = int(available.get("CPU", 0) // needs.num_cpus)
        if needs.num_gpus:
            fits = min(fits, int(available.get("GPU", 0) // needs.num_gpus))
        if self._is_private and not fits:
            raise ValueError(
                f"a worker asks for {needs.num_cpus:g} CPUs and {needs.num_gpus:g} GPUs, this machine has "
                f"{available.get('CPU', 0):g} and {available.get('GPU', 0):g}; lower execute.gpus_per_worker"
            )
        most = min(num_batches, self.config.num_workers or num_batches)
        now = max(1, min(fits, most))
        return ray.data.ActorPoolStrategy(min_size=now, max_size=now if self._is_private else most)


def connect(config: ExecuteConfig) -> bool:
    """Join the cluster of the configuration or of RAY_ADDRESS, else start a private Ray; True if it is private.

    Raises:
        ConnectionError: no cluster answers at the address.
    """
    import ray

    # Without an address Ray would follow a file that any earlier cluster on this machine left behind.
    address = config.address or os.environ.get("RAY_ADDRESS") or "local"
    private = {"num_cpus": config.num_cpus, "include_dashboard": False, "object_store_memory": STORE_BYTES}
    # Ray's core prints harmless lines about restartable actors at its error level.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        ray.init(
            address=address,
            logging_level=logging.ERROR,
            log_to_driver=False,
            **(private if address == "local" else {}),
        )
    except ConnectionError as error:
        raise ConnectionError(
            f"no Ray cluster answers at {address} ({error}); check --address, and RAY_AUTH_MODE=token with its token "
            "(docs/cluster.md)"
        ) from error
    return address == "local"


@dataclass(frozen=True, slots=True)
class _Stopped:
    """Stands for the outcomes of a batch when the stage itself cannot go on: output unwritable, weights missing."""

    error: Exception


class _Worker:
    """The actor: one stage, set up once. Items and outcomes travel pickled, since Arrow has no type for them."""

    def __init__(self, stage: bytes) -> None:
        self.stage = pickle.loads(stage)
        self.is_set_up = False

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        items = list(batch["item"])
        try:
            if not self.is_set_up:
                self.stage.setup()
                self.is_set_up = True
            outcomes = self.stage.process([pickle.loads(item) for item in items])
        except (OSError, ValueError) as error:  # as values: Ray would hand the driver a text about them instead
            outcomes = [_Stopped(error)] * len(items)
        return {"item": items, "outcome": [pickle.dumps(outcome) for outcome in outcomes]}


@contextmanager
def executor(config: ExecuteConfig) -> Iterator[Executor]:
    """The executor of the configuration; a Ray that it starts ends with the block."""
    if config.executor == "local":
        yield LocalExecutor()
        return
    on_ray = RayExecutor(config)
    try:
        yield on_ray
    finally:
        on_ray.close()


def batches(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])
