"""Processes that fork from one that has imported the heavy modules: each starts in milliseconds, not in seconds."""

import multiprocessing
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing import start_processes

from train.loop import train

PRELOADED = [
    "pytest",
    "pandas",  # pyarrow imports it where NumPy's arrays come in or out
    "pyarrow.dataset",
    "av",
    "cv2",
    "pipelines.cli",
    "pipelines.drivers.caption",
    "pipelines.drivers.curate",
    "pipelines.drivers.encode",
    "pipelines.drivers.train_autoencoder",
    "scenedetect.detectors",
    "train.loop",
    "torch._dynamo.backends.registry",  # the first step of a training imports the compiler
    "torch.utils.tensorboard",
    "tests.support.forks",
]
"""One list, because a process has one fork server: it keeps what its first child asked for."""

LIMIT_S = 120


def forks() -> ForkServerContext:
    """How a test starts processes of its own. What they run must be importable, and their arguments picklable."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def start_both(work: Callable[..., None], *arguments: Any) -> None:
    """`work(rank, *arguments)` in two processes; their errors are raised here."""
    start_ranks(work, 2, *arguments)


def start_ranks(work: Callable[..., None], num_ranks: int, *arguments: Any) -> None:
    """The same in so many."""
    forks()
    start_processes(work, arguments, nprocs=num_ranks, start_method="forkserver")


def run_commands(commands: Mapping[str, Sequence[str]], folder: Path) -> dict[str, tuple[int, str]]:
    """Command lines of `reelpack` by any name, each in a process of its own, all at once: exit codes, and what they
    print. `folder` gets their logs."""
    logs = {name: folder / f"{name}.log" for name in commands}
    processes = {
        name: forks().Process(target=run_command, args=(list(words), logs[name])) for name, words in commands.items()
    }
    try:
        for process in processes.values():
            process.start()
        for process in processes.values():
            process.join()
        return {name: (process.exitcode or 0, logs[name].read_text()) for name, process in processes.items()}
    finally:
        for process in processes.values():
            process.kill()


def run_command(words: list[str], log: Path) -> None:
    """What `reelpack` does with these words, in a process of its own; `log` gets what it prints."""
    from pipelines.cli import main

    with log.open("w") as printed:
        os.dup2(printed.fileno(), 1)
        os.dup2(printed.fileno(), 2)
    main(words)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A process that trained: its pid, its exit code (negative for a signal), what it wrote to stderr."""

    pid: int
    code: int
    errors: str


def run_ranks(
    num_ranks: int,
    settings: Any,
    dataset: str,
    out: Path,
    entry: Callable[..., object] = train,
    limit_s: float = LIMIT_S,
) -> list[Ended]:
    """Train on `num_ranks` ranks, each a process with the environment that torchrun sets. No launcher ends the others
    after one.

    Args:
        entry: called with `settings`, `dataset`, `out` in each rank.
        limit_s: for each of them.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": str(num_ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    environments = [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(num_ranks)]
    return run_at_once(environments, settings, dataset, out, entry, limit_s)


def run_at_once(
    environments: Sequence[Mapping[str, str]],
    settings: Any,
    dataset: str,
    out: Path,
    entry: Callable[..., object] = train,
    limit_s: float = LIMIT_S,
) -> list[Ended]:
    """One process per environment; they call `entry` at the same moment."""
    all_started = forks().Barrier(len(environments))
    logs = [out.with_name(f"{out.name}-{number}.log") for number in range(len(environments))]
    processes = [
        forks().Process(target=_run, args=(all_started, environment, log, entry, settings, dataset, out))
        for environment, log in zip(environments, logs, strict=True)
    ]
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join(limit_s)
            assert process.exitcode is not None, f"no end in {limit_s:g} s"
        return [
            Ended(pid=process.pid or 0, code=process.exitcode or 0, errors=log.read_text())
            for process, log in zip(processes, logs, strict=True)
        ]
    finally:
        for process in processes:
            process.kill()


def _run(
    all_started: Any,
    environment: Mapping[str, str],
    log: Path,
    entry: Callable[..., None],
    settings: Any,
    dataset: str,
    out: Path,
) -> None:
    with log.open("w") as errors:
        os.dup2(errors.fileno(), 2)
    os.environ.update(environment)
    torch.set_num_threads(1)
    all_started.wait(LIMIT_S)
    entry(settings, dataset, out)
