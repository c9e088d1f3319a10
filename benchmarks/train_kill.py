"""Kills training runs at random steps, continues them, and compares what they learned and met with undisturbed runs.

    python -m benchmarks.train_kill [--kills 4] [--steps 60] [--seed 0] [--only Ray]

Each kill is `kill -9` of a process that this script started, in the middle of a step drawn at random; then the same
command runs again. Four things are shown, on a generated dataset and a tiny model:

- On as many workers as before the run goes on bitwise: every row of `metrics.jsonl`, the last weights and averages.
- From 2 workers to 1, from 2 to 3, and along 2, 1, 3: the same samples lie in the same packs of the same steps, with
  the same timesteps and noise; the first loss after the first move is that of the undisturbed run to 1e-6, relatively.
  The rest is as near as the order of summation allows, and printed.
- Ray Train finds a killed worker by itself and restarts the run from its last checkpoint; bitwise, too.

Exit code 1 where something differs that must not.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from benchmarks import met
from benchmarks.machine import described
from tests.support.latents import smooth_clips, write_dataset
from tests.support.processes import Tree, kill
from train.monitor.metrics import MEASURED, read_metrics
from train.run.folder import load_model

ROOT = Path(__file__).parent.parent
PACKS_PER_STEP = 6
"""Three workers have two each, and two have three."""

FIRST_LOSS_TOLERANCE = 1e-6
POLL_S = 0.003
STOP_LIMIT_S = 60
LAUNCH_LIMIT_S = 300

Row = Mapping[str, Any]
Packs = dict[int, frozenset[tuple[tuple[str, str], ...]]]
"""Step → its packs: clips with the digests of what was met of them."""


@dataclass(frozen=True, kw_only=True)
class Runs:
    """The dataset and the configuration that all runs share, and how they are started.

    Attributes:
        folder: Where everything lies; short, because Ray's sockets lie below it.
        num_steps: Of each run.
    """

    folder: Path
    num_steps: int

    @property
    def dataset(self) -> Path:
        return self.folder / "data"

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    def prepare(self) -> None:
        """Write the dataset, 40 clips and 4 held-out ones, and the configuration."""
        write_dataset(self.dataset, smooth_clips(44, num_val=4))
        plan = {"token_budget": 96, "packs_per_step": PACKS_PER_STEP}
        settings = {
            "steps": self.num_steps,
            "device": "cpu",
            "model": {"width": 48, "depth": 3, "num_heads": 2},
            "data": {"plan": plan},
            "optimizer": {"lr": 2e-3, "warmup_steps": 5, "schedule": "cosine"},
            "ema": {"decay": 0.9},
            "validation": {"every": 10, "first": 2, "timesteps": [0.3, 0.7], "caption_every": 20},
            "checkpoint": {"every": 4},
        }
        self.config.write_text(yaml.safe_dump({"train": settings}))

    def start(self, out: Path, launch: int, workers: int, *, on_ray: bool = False) -> Tree:
        """A launch of the run in `out`, recorded."""
        records = self.records(out) / f"{launch:02d}"
        records.mkdir(parents=True)
        env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        recorder = met.environment(records, out, PACKS_PER_STEP)
        env |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | recorder
        options = [str(self.dataset), "--out", str(out), "--config", str(self.config)]
        command = ["-m", "benchmarks.met", *options]
        if on_ray:
            command = [
                "-m",
                "pipelines.train_dit",
                *options,
                "--workers",
                str(workers),
                "--set=execute.num_cpus=4",
            ]
            hook = {"worker_process_setup_hook": "benchmarks.met.record", "env_vars": recorder}
            # As `ray job submit` hands it over. Every kill below is one of Ray's failures.
            env |= {"RAY_TMPDIR": str(self.folder), "RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps({"runtime_env": hook})}
        elif workers > 1:
            command = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={workers}", *command]
        return Tree([sys.executable, *command], env=env, cwd=ROOT, log=self.log(out))

    def records(self, out: Path) -> Path:
        return self.folder / "met" / out.name

    def log(self, out: Path) -> Path:
        return self.folder / f"{out.name}.log"

    def finish(self, out: Path, launch: int, workers: int, *, on_ray: bool = False) -> None:
        """A launch that nobody disturbs.

        Raises:
            RuntimeError: it ended badly, or not at all.
        """
        with self.start(out, launch, workers, on_ray=on_ray) as tree:
            self._await_end(tree, out, LAUNCH_LIMIT_S)

    def _await_end(self, tree: Tree, out: Path, limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        while tree.is_running() and time.monotonic() < deadline:
            time.sleep(POLL_S)
        if tree.driver.poll() != 0:
            said = self.log(out).read_text()[-3000:]
            raise RuntimeError(f"{out.name} ended with {tree.driver.poll()} after {tree.seconds:.0f} s:\n{said}")

    def kill_at(self, out: Path, launch: int, workers: int, step: int, rng: np.random.Generator) -> str:
        """A launch of which one worker is killed after `step`, in the middle of the next; says what happened."""
        with self.start(out, launch, workers) as tree:
            said = self._kill(tree, out, step, rng)
            deadline = time.monotonic() + STOP_LIMIT_S
            while tree.is_running() and time.monotonic() < deadline:  # torchrun ends the other workers
                time.sleep(POLL_S)
        return said

    def kill_on_ray(self, out: Path, workers: int, steps: Sequence[int], rng: np.random.Generator) -> list[str]:
        """One launch, of which a worker is killed after each of `steps`; Ray Train brings it to its end."""
        with self.start(out, 0, workers, on_ray=True) as tree:
            said = [self._kill(tree, out, step, rng) for step in steps]
            self._await_end(tree, out, LAUNCH_LIMIT_S)
        return said

    def _kill(self, tree: Tree, out: Path, step: int, rng: np.random.Generator) -> str:
        deadline = time.monotonic() + LAUNCH_LIMIT_S
        while (rows := step_rows(out)).keys().isdisjoint(range(step, self.num_steps + 1)):
            if not tree.is_running() or time.monotonic() > deadline:
                raise RuntimeError(f"no step {step} in {tree.seconds:.0f} s:\n{self.log(out).read_text()[-3000:]}")
            time.sleep(POLL_S)
        time.sleep(float(rng.random()) * rows[max(rows)]["seconds"])
        workers = [pid for pid, line in sorted(tree.pids().items()) if is_worker(line)]
        victim = int(rng.choice(workers))
        kill(victim)
        saved = sorted(path.name for path in (out / "checkpoints").glob("step-*"))
        return f"worker {workers.index(victim)} of {len(workers)} killed after step {max(step_rows(out))}" + (
            f", saved {saved[-1]}" if saved else ", nothing saved"
        )


def is_worker(line: str) -> bool:
    """A process that trains: one of torchrun's, the only one, or an actor of Ray Train."""
    launched = "benchmarks.met" in line and "torch.distributed.run" not in line
    return launched or line.startswith("ray::RayTrainWorker")


def step_rows(out: Path) -> dict[int, Row]:
    """Rows of the steps in `metrics.jsonl`."""
    return {row["step"]: row for row in read_metrics(out / "metrics.jsonl") if "loss" in row}


def packs_met(records: Path) -> Packs:
    """What all launches of a run met together."""
    packs: dict[int, set[tuple[tuple[str, str], ...]]] = {}
    for folder in sorted(records.iterdir()):
        for one in met.read(folder):
            packs.setdefault(one.step, set()).add(one.digests)
    return {step: frozenset(packs[step]) for step in sorted(packs)}


def differing_packs(runs: Runs, expected: Path, out: Path) -> list[str]:
    """Steps of a run, done again or not, that met anything else than those of the undisturbed run."""
    whole, got = packs_met(runs.records(expected)), packs_met(runs.records(out))
    assert whole.keys() == set(range(1, runs.num_steps + 1)), "the undisturbed run was not recorded"
    assert all(len(packs) == PACKS_PER_STEP for packs in whole.values())
    return [f"step {step} met other packs" for step in whole if whole[step] != got.get(step)]


def differing_rows(expected: Path, out: Path) -> list[str]:
    """Rows of the metrics and weights that are not the same to the last bit."""
    rows = [
        [{name: row[name] for name in row.keys() - MEASURED} for row in read_metrics(run / "metrics.jsonl")]
        for run in (expected, out)
    ]
    lines = [f"expected {a}, got {b}" for a, b in zip(*rows, strict=False) if a != b]
    lines += [f"expected {len(rows[0])} rows, got {len(rows[1])}"] if len(rows[0]) != len(rows[1]) else []
    for name in ("model", "ema"):
        a, b = (load_model(run, weights=name)[0].state_dict() for run in (expected, out))
        lines += [f"{name}: {key} differs" for key in a if not torch.equal(a[key], b[key])]
    return lines


def same_workers(runs: Runs, expected: Path, workers: int, num_kills: int, rng: np.random.Generator) -> list[str]:
    """One run, killed at as many random steps and continued each time; what differs."""
    out = runs.folder / f"killed-{workers}"
    for launch, step in enumerate(random_steps(runs, num_kills, rng)):
        print(f"  {runs.kill_at(out, launch, workers, step, rng)}", flush=True)
    runs.finish(out, num_kills, workers)
    return differing_packs(runs, expected, out) + differing_rows(expected, out)


def other_workers(runs: Runs, expected: Path, path: Sequence[int], rng: np.random.Generator) -> list[str]:
    """One run that is killed and continued on other numbers of workers; what differs more than it may."""
    out = runs.folder / "-".join(["moved", *map(str, path)])
    for launch, (workers, step) in enumerate(zip(path, random_steps(runs, len(path) - 1, rng), strict=False)):
        print(f"  {workers} workers: {runs.kill_at(out, launch, workers, step, rng)}", flush=True)
    runs.finish(out, len(path) - 1, path[-1])
    whole, got = step_rows(expected), step_rows(out)
    differences = {step: abs(got[step]["loss"] / whole[step]["loss"] - 1) for step in whole}
    lines = differing_packs(runs, expected, out)
    for launch, workers in enumerate(path[1:], 1):
        first = min(one.step for one in met.read(runs.records(out) / f"{launch:02d}"))
        is_first_move = launch == 1  # after it the weights differ by the order of summation
        print(f"  first loss on {workers}: step {first}, {differences[first]:.1e} from the undisturbed run's")
        if is_first_move and not differences[first] <= FIRST_LOSS_TOLERANCE:
            lines.append(f"step {first}: loss {got[first]['loss']}, undisturbed {whole[first]['loss']}")
    shown = ", ".join(f"{step}: {differences[step]:.0e}" for step in [*range(5, runs.num_steps, 5), runs.num_steps])
    print(f"  relative difference of the loss by step: {shown}; at most {max(differences.values()):.0e}")
    return lines


def on_ray(runs: Runs, expected: Path, num_kills: int, rng: np.random.Generator) -> list[str]:
    """The same on two workers of Ray Train, which restarts the run itself; what differs."""
    out = runs.folder / "ray-2"
    for line in runs.kill_on_ray(out, 2, random_steps(runs, num_kills, rng), rng):
        print(f"  {line}", flush=True)
    num_workers = sum(1 for _ in runs.records(out).rglob("*.jsonl"))
    assert num_workers >= 2 * (1 + num_kills), f"{num_workers} workers trained: none was replaced"
    return differing_packs(runs, expected, out) + differing_rows(expected, out)


def random_steps(runs: Runs, count: int, rng: np.random.Generator) -> list[int]:
    """One in each of as many equal parts of the run, but for its ends."""
    edges = np.linspace(2, runs.num_steps - 2, count + 1).astype(int)
    return [int(rng.integers(low, high)) for low, high in pairwise(edges)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=4, help="of the run on one worker; others have fewer")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="proofs whose name contains this")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that a stop ends the processes too
    torch.set_num_threads(1)
    print(described())
    with tempfile.TemporaryDirectory(prefix="kill-", ignore_cleanup_errors=True) as temporary:
        runs = Runs(folder=Path(temporary), num_steps=arguments.steps)
        sys.exit(0 if prove(runs, arguments.kills, arguments.seed, arguments.only) else 1)


def prove(runs: Runs, num_kills: int, seed: int, only: str) -> bool:
    """All of it; True if nothing differs that must not."""
    runs.prepare()
    rng = np.random.default_rng(seed)
    undisturbed = {workers: runs.folder / f"undisturbed-{workers}" for workers in (1, 2)}
    for workers, out in undisturbed.items():
        start = time.monotonic()
        runs.finish(out, 0, workers)
        print(f"undisturbed on {workers}: {runs.num_steps} steps in {time.monotonic() - start:.0f} s", flush=True)
    proofs = {
        "1 worker, killed and continued": lambda: same_workers(runs, undisturbed[1], 1, num_kills, rng),
        "2 workers, killed and continued": lambda: same_workers(runs, undisturbed[2], 2, max(1, num_kills // 2), rng),
        "2 workers, then 1": lambda: other_workers(runs, undisturbed[2], (2, 1), rng),
        "2 workers, then 3": lambda: other_workers(runs, undisturbed[2], (2, 3), rng),
        "2 workers, then 1, then 3": lambda: other_workers(runs, undisturbed[2], (2, 1, 3), rng),
        "2 workers of Ray Train": lambda: on_ray(runs, undisturbed[2], max(1, num_kills // 2), rng),
    }
    holds = True
    for name, proof in proofs.items():
        if only not in name:
            continue
        print(name, flush=True)
        wrong = proof()
        holds = holds and not wrong
        print(f"  {'EQUAL' if not wrong else 'DIFFERENT'}", *wrong[:8], sep="\n    ", flush=True)
    print("all as it must be" if holds else "something DIFFERS that must not")
    return holds


if __name__ == "__main__":
    main()
