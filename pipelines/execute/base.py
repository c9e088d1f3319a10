"""How stages are run: in this process, or on Ray Data. Both give the same outcomes; only their order may differ.

A stage is any object with the methods of `Stage`. It neither knows nor imports what runs it.
"""

import logging
import os
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from curate.media.counter import counts
from curate.media.staging import StagingConfig
from curate.schema import Failure, FailureKind

KNOCK_S = 5
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
    num_workers: int | None = Field(
        None,
        ge=1,
        description="workers of a stage: a machine starts as many as fit, a cluster all; none: one per CPU (GPU)",
    )
    gpus_per_worker: float = Field(0, ge=0, description="GPU share of each worker of a stage that runs a model")
    publish_every_s: float = Field(30, gt=0, description="seconds between parts: what a kill can lose")
    max_attempts: int = Field(3, ge=1, description="on Ray: workers that may die on one item before it is given up")
    item_limit_s: float | None = Field(
        6 * 3600,
        gt=0,
        description="on Ray: seconds after which an item that does not return costs its worker its life; null: never",
    )
    staging: StagingConfig = Field(StagingConfig(), description="local copies of remote inputs")


class Stage(Protocol[In, Out]):
    """Work on items: cheap picklable constructor, `setup` once per worker, one outcome per item in order.

    Errors that `process` raises: RuntimeError and MemoryError are of the items; any other, such as OSError for an
    output that cannot be written, is nobody's fault and stops the run.
    """

    step: str

    def setup(self) -> None: ...

    def process(self, items: Sequence[In]) -> Sequence[Out | Failure]: ...

    def give_up(self, item: In, kind: FailureKind, detail: str, attempts: int) -> Out | Failure:
        """The outcome of an item that `process` raised on, or whose worker died or hung over it `attempts` times."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Needs:
    """What one worker of a stage takes: CPUs, a share of a GPU, and how many items it is handed at a time."""

    batch_size: int = 1
    num_cpus: float = 1
    num_gpus: float = 0


class Executor(Protocol):
    def run(self, stage: Stage[Any, Any], items: Sequence[Any], needs: Needs) -> Iterator[tuple[Any, Any]]:
        """Yield `(item, outcome)` once for every item, as the outcomes come."""
        ...

    def under_way(self) -> Mapping[str, float]:
        """What is done of items that have no outcome yet, as `curate.media.counter` counts it. For any thread."""
        ...


class LocalExecutor:
    """Runs a stage in this process: for tests, for one small machine, for a GPU box. A crash in native code ends the
    run, and a rerun meets it again; on Ray only the item fails."""

    def __init__(self) -> None:
        self._before = counts()

    def run(self, stage: Stage[Any, Any], items: Sequence[Any], needs: Needs) -> Iterator[tuple[Any, Any]]:
        if items:
            stage.setup()
        for batch in batches(items, needs.batch_size):
            self._before = counts()
            outcomes = contained(stage, batch)
            self._before = counts()
            yield from zip(batch, outcomes, strict=True)

    def under_way(self) -> Mapping[str, float]:
        return since(self._before)


def since(before: Mapping[str, float]) -> dict[str, float]:
    """What this process has got through since `counts` gave that."""
    return {name: number - before[name] for name, number in counts().items()}


def contained(stage: Stage[Any, Any], items: Sequence[Any]) -> list[Any]:
    """The stage's outcomes of a batch. Where it raises over the batch, each item is tried by itself, and given up as
    MODEL if it raises again: what a decoder or a model raises over one file is no reason to lose the others.

    Raises:
        OSError, ImportError: no item's fault: the disk is full, a package is missing.
        RuntimeError: torch's AcceleratorError: the GPU is in disorder, and this process can no longer use it.
    """
    try:
        outcomes = list(stage.process(items))
    except (OSError, ImportError, AssertionError):
        raise
    except Exception as error:
        if is_lost_device(error):
            raise
        if len(items) > 1:
            return [outcome for item in items for outcome in contained(stage, [item])]
        outcomes = [stage.give_up(items[0], FailureKind.MODEL, f"{type(error).__name__}: {error}", 1)]
    assert len(outcomes) == len(items), f"{stage.step} gave {len(outcomes)} outcomes for {len(items)} items"
    return outcomes


def is_lost_device(error: BaseException) -> bool:
    """Whether this process must end because of the error: its CUDA context is gone."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(error, torch.AcceleratorError)


@contextmanager
def executor(config: ExecuteConfig) -> Iterator[Executor]:
    """The executor of the configuration; a Ray that it starts ends with the block."""
    if config.executor == "local":
        yield LocalExecutor()
        return
    from pipelines.execute.ray_data import RayExecutor

    on_ray = RayExecutor(config)
    try:
        yield on_ray
    finally:
        on_ray.close()


def connect(config: ExecuteConfig) -> bool:
    """Join the cluster of the configuration or of RAY_ADDRESS, else start a private Ray; True if it is private.

    Raises:
        ConnectionError: no cluster answers at the address, or no Ray starts here.
    """
    import ray

    address = check_address(config)
    private = {"num_cpus": config.num_cpus, "include_dashboard": False, "object_store_memory": STORE_BYTES}
    # Ray's core prints harmless lines about restartable actors at its error level.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        # Ray's processes take standard input over, and hand it to every worker.
        with _empty_stdin(), _without(b"Set ray log level from environment variable"):
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
    except Exception as error:
        # Where a process of its own does not come up in time, Ray raises what it has at hand, a bare Exception too.
        if address != "local":
            raise
        ray.shutdown()
        raise ConnectionError(
            f"Ray did not start on this machine ({error}); if it is busy, or short of memory or of room in /tmp, try "
            "again later; `--executor local` works without Ray (its logs are in /tmp/ray/session_latest/logs)"
        ) from error
    return address == "local"


@contextmanager
def _empty_stdin() -> Iterator[None]:
    """What is started inside reads nothing from this process's terminal."""
    try:
        ours = os.dup(0)
    except OSError:  # closed by whoever started this process
        ours = os.open(os.devnull, os.O_RDONLY)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    try:
        yield
    finally:
        os.dup2(ours, 0)
        os.close(ours)
        os.close(empty)


@contextmanager
def _without(words: bytes) -> Iterator[None]:
    """Lines with these words are left out of what is written to standard error inside, by native code too; all others
    appear at the end."""
    try:
        theirs = os.dup(2)
    except OSError:  # closed: nothing appears anywhere
        yield
        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(theirs, 2)
            os.close(theirs)
            said.seek(0)
            os.write(2, b"".join(line for line in said if words not in line))


def check_address(config: ExecuteConfig) -> str:
    """The address of Ray that the configuration or RAY_ADDRESS names, "local" for a private one. Ray itself would wait
    for minutes for a head that is not there.

    Raises:
        ConnectionError: nothing listens at HOST:PORT.
    """
    # Without an address Ray would follow a file that any earlier cluster on this machine left behind.
    address = config.address or os.environ.get("RAY_ADDRESS") or "local"
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=KNOCK_S).close()
        except OSError as error:
            raise ConnectionError(
                f"nothing listens at {address} ({error}); check --address, the head (`ray status` there) and firewalls"
            ) from error
    return address


def batches(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])
