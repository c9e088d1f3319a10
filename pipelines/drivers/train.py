"""Training, in this process or as a Ray Train job.

`reelpack train` (and `torchrun -m train`) runs the loop where it stands. On a cluster:
`ray job submit --working-dir . -- python -m pipelines.train_dit DATASET --out RUN --workers 8 --gpu`.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch

from pipelines.config import Config
from pipelines.console.interrupted import is_first_rank
from pipelines.console.progress import STEPS, Line, console, shown
from pipelines.drivers.upsample import keep_examples
from pipelines.execute.ray_train import run_workers
from pipelines.monitor.metrics import Sink, TrainMetrics
from pipelines.monitor.prometheus import served
from pipelines.run_report import reported
from train.estimate.memory import MemoryEstimate, gib
from train.loop import train
from train.monitor.metrics import TrainSummary
from train.run.folder import check_ranks

LOG_EVERY_S = 20
"""Seconds between lines where stderr is no terminal."""


def train_here(dataset: str | Sequence[str], out: str, config: Config) -> TrainSummary:
    """Train in this process (one of torchrun's, where it was started by that), with a progress line.

    Raises:
        ValueError: what `train.loop.train` raises: a dataset, run or number of ranks that does not fit.
    """
    from curate.report.run import build_run_report

    with served(config.execute) if is_first_rank() else nullcontext(()) as sinks:
        if not (console.is_terminal or console.is_jupyter) or not is_first_rank():
            return train_as_worker(dataset, out, config, sinks)
        line, metrics = Line("train", config.train.steps, config.train.steps, STEPS), TrainMetrics(sinks, out)

        def on_step(row: dict[str, Any]) -> None:
            if "loss" in row:
                line.num_done = line.finished = row["step"]
                line.notes = tuple(_notes(row))
            metrics.count(row)
            report(row)

        with reported(out, build_run_report) as report, shown(line, lambda: line.update({})):
            return train(config.train, dataset, out, on_step=on_step, on_start=_at_start(dataset, out))


def train_as_worker(
    dataset: str | Sequence[str], out: str, config: Config, sinks: Sequence[Sink] = ()
) -> TrainSummary:
    """Train in this process, with lines for a log; metrics go to `sinks`."""
    from curate.report.run import build_run_report

    say, metrics = _log_line(config.train.steps), TrainMetrics(sinks, out)
    with reported(out, build_run_report) as report:

        def on_step(row: dict[str, Any]) -> None:
            say(row)
            metrics.count(row)
            report(row)

        return train(config.train, dataset, out, on_step=on_step, on_start=_at_start(dataset, out))


def _at_start(dataset: str | Sequence[str], out: str) -> Callable[[MemoryEstimate], None]:
    """What the main rank does before the first step."""

    def on_start(estimate: MemoryEstimate) -> None:
        keep_examples(dataset, out)
        _say_memory(estimate)

    return on_start


def _say_memory(estimate: MemoryEstimate) -> None:
    has = ""
    if torch.cuda.is_available():
        has = f"; the device has {gib(torch.cuda.get_device_properties(0).total_memory)}"
    console.print(f"memory of a rank: {estimate}{has}", highlight=False, soft_wrap=True)


def _notes(row: dict[str, Any]) -> list[str]:
    """What there is to say of a step, the most important first; what is not known is left out."""
    shares = {
        "MFU": row["mfu"],
        "packed": row["token_efficiency"],
        "idle": row["rank_idle_s"] / row["seconds"] if row["rank_idle_s"] else None,
        "loader": row["loader_wait_s"] / row["seconds"],
    }
    parts = [f"loss {row['loss']:.3f}", f"{row['tokens_per_s']:,.0f} tokens/s"]
    parts += [f"{name} {share:.0%}" for name, share in shares.items() if share is not None]
    parts += [f"{row['memory_gib']:.1f} GiB"]
    if row["checkpoint_stall_s"] >= 0.1:
        parts.append(f"checkpoint {row['checkpoint_stall_s']:.1f} s")
    return parts


def _log_line(steps: int) -> Callable[[dict[str, Any]], None]:
    last = 0.0

    def on_step(row: dict[str, Any]) -> None:
        nonlocal last
        if "loss" in row and (time.monotonic() - last > LOG_EVERY_S or row["step"] == steps):
            last = time.monotonic()
            console.print(f"train: {row['step']}/{steps}, {'  '.join(_notes(row))}", highlight=False, soft_wrap=True)

    return on_step


def train_on_ray(
    dataset: str | Sequence[str],
    out: str,
    config: Config,
    *,
    workers: int | tuple[int, int],
    gpu: bool,
    max_failures: int = 3,
) -> str:
    """Train on Ray Train workers; when one is lost, the run resumes from its last checkpoint.

    Args:
        dataset: on storage that every worker sees, as is `out`.
        out: the run.
        config: what is trained.
        workers: how many, or the least and the most: then a lost worker is not waited for, and as nodes come, the run
            resumes with more.
        gpu: one for each worker.
        max_failures: lost workers until the run ends with an error.

    Raises:
        ValueError: the packs of a step cannot be dealt over so many workers.
    """
    least, most = (workers, workers) if isinstance(workers, int) else workers
    for number in range(least, most + 1):
        check_ranks(config.train, number)

    def work(settings: dict[str, Any]) -> None:
        from pipelines.monitor.on_ray import RaySink

        train_as_worker(dataset, out, Config.model_validate(settings), (RaySink(),))

    run_workers(work, config, out, workers=workers, gpu=gpu, max_failures=max_failures)
    return out
