"""A training as a job of Ray Train, whichever it is."""

import re
from collections.abc import Callable
from typing import Any

from fsspec.implementations.local import LocalFileSystem
from pyarrow.fs import FSSpecHandler, PyFileSystem

from curate.storage.place import locate
from curate.terminal import leave_terminal
from pipelines.config import Config
from pipelines.execute.ray_cluster import connect

Workers = int | tuple[int, int]
"""How many, or the least and the most."""


def run_workers(
    work: Callable[[dict[str, Any]], None], config: Config, out: str, *, workers: Workers, gpu: bool, max_failures: int
) -> None:
    """Run `work` on Ray Train workers, each a rank; when one is lost, it is called again on all of them.

    Args:
        work: called with the configuration as JSON values.
        config: it.
        out: folder of the run, on storage that every worker sees.
        workers: with the least and the most, a lost worker is not waited for, and as nodes come, there are more.
        gpu: one for each worker.
        max_failures: lost workers until the run ends with an error.

    Raises:
        RuntimeError: the training failed too often; the first worker's error, in one line.
    """
    import ray
    import ray.train
    from ray.train.torch import TorchTrainer

    def of_worker(settings: dict[str, Any]) -> None:
        leave_terminal()
        work(settings)

    fs, path = locate(out)
    trainer = TorchTrainer(
        of_worker,
        train_loop_config=config.model_dump(mode="json"),
        scaling_config=ray.train.ScalingConfig(num_workers=workers, use_gpu=gpu),
        run_config=ray.train.RunConfig(
            storage_path=f"{path}/ray",
            storage_filesystem=None if isinstance(fs, LocalFileSystem) else PyFileSystem(FSSpecHandler(fs)),
            failure_config=ray.train.FailureConfig(max_failures=max_failures),
        ),
    )
    connected_here = not ray.is_initialized()
    if connected_here:
        connect(config.execute)
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise RuntimeError(failed_by(error)) from error
    finally:
        if connected_here:
            ray.shutdown()


def failed_by(error: Exception) -> str:
    """What ended a training on Ray (`TrainingFailedError`), in one line: of several workers the first one's error."""
    errors = getattr(error, "worker_failures", {}) or {None: getattr(error, "controller_failure", None) or error}
    rank, first = min(errors.items(), key=lambda pair: pair[0] or 0)
    last_line = str(first).strip().splitlines()[-1]
    return f"the training ended{'' if rank is None else f' on rank {rank}'}: {last_line}"


def read_workers(text: str) -> Workers:
    """`4`, or `2:8` for two to eight.

    Raises:
        ValueError: neither.
    """
    match = re.fullmatch(r"(\d+)(?::(\d+))?", text)
    least, most = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= least <= most:
        raise ValueError(f"--workers {text}: expected a number, such as 4, or the least and the most, such as 2:8")
    return least if least == most else (least, most)
