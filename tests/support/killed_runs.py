"""Training runs that are killed, resumed and compared with undisturbed ones: weights, metrics and seen packs."""

import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from tests.support import seen
from tests.support.latents import smooth_clips, write_dataset
from tests.support.processes import Tree, kill
from tests.support.rays import ATTEMPTS, NOT_STARTED, patient_environment
from train.monitor.metrics import MEASURED, read_metrics
from train.run.folder import load_model

ROOT = Path(__file__).parents[2]


PACKS_PER_STEP = 6
"""Three workers have two each, and two have three."""


MODEL: Mapping[str, Any] = {"width": 48, "depth": 3, "num_heads": 2}
"""`train.model` of runs that name no other."""


PACK_PATCHES = 96
"""Patches of a pack, of 1 latent frame, 2 rows and 2 columns each."""


FIRST_LOSS_TOLERANCE = 1e-6


POLL_S = 0.02


STALL_LIMIT_S = 600
"""For a launch that writes nothing: no steps, no records, no log. A busy machine makes one slow, and stops none."""


Row = Mapping[str, Any]


Packs = dict[int, frozenset[tuple[tuple[str, str], ...]]]
"""Step → its packs: clips with the digests of what was seen of them."""


@dataclass(frozen=True, kw_only=True)
class Runs:
    """The dataset and the configuration that all runs share, and how they are started.

    Attributes:
        folder: Where everything lies; short, because Ray's sockets lie below it.
        num_steps: Of each run.
        model: Settings `train.model`.
    """

    folder: Path
    num_steps: int
    model: Mapping[str, Any] = field(default_factory=lambda: MODEL)

    @property
    def dataset(self) -> Path:
        return self.folder / "data"

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    def prepare(self) -> None:
        """Write the dataset, 40 clips and 4 held-out ones, and the configuration."""
        write_dataset(self.dataset, smooth_clips(44, num_val=4))
        patches = 4 if self.model.get("kind") == "unet" else 1  # its own are of one row and column
        plan = {"token_budget": PACK_PATCHES * patches, "packs_per_step": PACKS_PER_STEP}
        settings = {
            "steps": self.num_steps,
            "device": "cpu",
            "model": dict(self.model),
            "data": {"plan": plan},
            "optimizer": {"lr": 2e-3, "warmup_steps": 5, "schedule": "cosine"},
            "ema": {"decay": 0.9},
            "evaluate": {
                "held_out": {"every": 10, "first": 2, "timesteps": [0.3, 0.7]},
                "captions": {"every": 20, "timesteps": [0.3, 0.7], "max_clips": 8},
            },
            "checkpoint": {"every": 4},
        }
        self.config.write_text(yaml.safe_dump({"train": settings}))

    def start(self, out: Path, launch: int, workers: int, *, on_ray: bool = False, kill: int | None = None) -> Tree:
        """A launch of the run in `out`, recorded. `kill`: the step after which it is killed; it goes one step further
        at most."""
        records = self.records(out) / f"{launch:02d}"
        records.mkdir(parents=True, exist_ok=True)
        if kill is not None:
            self._hold(records, kill)
        recorder = seen.environment(records, out, PACKS_PER_STEP)
        env = patient_environment() | {"PYTHONPATH": str(ROOT)} | recorder
        options = [str(self.dataset), "--out", str(out), "--config", str(self.config)]
        command = ["-m", "tests.support.seen", str(workers), *options]
        if on_ray:
            command = [
                "-m",
                "pipelines.train_dit",
                *options,
                "--workers",
                str(workers),
                "--set=execute.num_cpus=4",
            ]
            hook = {"worker_process_setup_hook": "tests.support.seen.record", "env_vars": recorder}
            # As `ray job submit` hands it over. Every kill below is one of Ray's failures.
            env |= {"RAY_TMPDIR": str(self.folder), "RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps({"runtime_env": hook})}
        return Tree([sys.executable, *command], env=env, cwd=ROOT, log=self.log(out))

    def records(self, out: Path) -> Path:
        return self.folder / "seen" / out.name

    def log(self, out: Path) -> Path:
        return self.folder / f"{out.name}.log"

    def finish(self, out: Path, launch: int, workers: int, *, on_ray: bool = False) -> None:
        """A launch that nobody disturbs.

        Raises:
            RuntimeError: it ended badly, or not at all.
        """
        with self.start(out, launch, workers, on_ray=on_ray) as tree:
            self._await_end(tree, out)

    def _hold(self, records: Path, step: int) -> None:
        (records / "next").write_text(str(step + 1))
        (records / "next").replace(records / seen.HOLD)

    def _await(self, tree: Tree, out: Path, is_there: Callable[[], bool]) -> None:
        """Until it is there, or the launch has ended, or hangs."""
        progress, since = None, time.monotonic()
        while tree.is_running() and not is_there():
            files = [self.log(out), out / "metrics.jsonl", *self.records(out).rglob("*.jsonl")]
            if (now := [path.stat().st_size for path in files if path.exists()]) != progress:
                progress, since = now, time.monotonic()
            if time.monotonic() - since > STALL_LIMIT_S:
                return
            time.sleep(POLL_S)

    def _await_end(self, tree: Tree, out: Path) -> None:
        self._await(tree, out, lambda: False)
        if tree.driver.poll() != 0:
            said = self.log(out).read_text()[-3000:]
            raise RuntimeError(f"{out.name} ended with {tree.driver.poll()} after {tree.seconds:.0f} s:\n{said}")

    def kill_at(self, out: Path, launch: int, workers: int, step: int, rng: np.random.Generator) -> str:
        """A launch of which one worker is killed after `step`, in the middle of the next; says what happened."""
        with self.start(out, launch, workers, kill=step) as tree:
            said = self._kill(tree, out, step, rng)
            self._await(tree, out, lambda: False)  # the launcher ends the other workers
        return said

    def kill_on_ray(self, out: Path, workers: int, steps: Sequence[int], rng: np.random.Generator) -> list[str]:
        """One launch, of which a worker is killed after each of `steps`; Ray Train brings it to its end."""
        for attempt in range(ATTEMPTS):
            with self.start(out, 0, workers, on_ray=True, kill=steps[0]) as tree:
                self._await(tree, out, lambda: bool(step_rows(out)))
                if not step_rows(out) and NOT_STARTED in self.log(out).read_text() and attempt < ATTEMPTS - 1:
                    continue
                said, hold = [], self.records(out) / "00" / seen.HOLD
                for step, following in zip(steps, [*steps[1:], None], strict=True):
                    said.append(self._kill(tree, out, step, rng))
                    hold.unlink() if following is None else self._hold(hold.parent, following)
                self._await_end(tree, out)
                break
        return said

    def copied(self, run: Path, name: str) -> Path:
        """A run and its records in another folder."""
        shutil.copytree(self.records(run), self.records(self.folder / name))
        return Path(shutil.copytree(run, self.folder / name))

    def _kill(self, tree: Tree, out: Path, step: int, rng: np.random.Generator) -> str:
        self._await(tree, out, lambda: any(done >= step for done in step_rows(out)))
        rows = step_rows(out)
        if all(done < step for done in rows):
            raise RuntimeError(f"no step {step} in {tree.seconds:.0f} s:\n{self.log(out).read_text()[-3000:]}")
        time.sleep(float(rng.random()) * rows[max(rows)]["seconds"])
        found = [pid for pid, line in sorted(tree.pids().items()) if is_worker(line)]
        workers = [pid for pid in found if pid != tree.driver.pid] or found  # a launcher of several is none of them
        victim = int(rng.choice(workers))
        kill(victim)
        saved = sorted(path.name for path in (out / "checkpoints").glob("step-*"))
        return f"worker {workers.index(victim)} of {len(workers)} killed after step {max(step_rows(out))}" + (
            f", saved {saved[-1]}" if saved else ", nothing saved"
        )


def is_worker(line: str) -> bool:
    """A process that trains, the launcher that it forked from, or an actor of Ray Train."""
    return "tests.support.seen" in line or line.startswith("ray::RayTrainWorker")


def step_rows(out: Path) -> dict[int, Row]:
    """Rows of the steps in `metrics.jsonl`."""
    return {row["step"]: row for row in read_metrics(out / "metrics.jsonl") if "loss" in row}


def packs_seen(records: Path) -> Packs:
    """What all launches of a run saw together."""
    packs: dict[int, set[tuple[tuple[str, str], ...]]] = {}
    for folder in sorted(records.iterdir()):
        for one in seen.read(folder):
            packs.setdefault(one.step, set()).add(one.digests)
    return {step: frozenset(packs[step]) for step in sorted(packs)}


def differing_packs(runs: Runs, expected: Path, out: Path) -> list[str]:
    """Steps of a run, repeated or not, that saw other packs than those of the undisturbed run."""
    whole, got = packs_seen(runs.records(expected)), packs_seen(runs.records(out))
    assert whole.keys() == set(range(1, runs.num_steps + 1)), "the undisturbed run was not recorded"
    assert all(len(packs) == PACKS_PER_STEP for packs in whole.values())
    return [f"step {step} saw other packs" for step in whole if whole[step] != got.get(step)]


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


def same_workers(
    runs: Runs, expected: Path, workers: int, num_kills: int, rng: np.random.Generator, *, begun: Path | None = None
) -> list[str]:
    """One run, killed at as many random steps and continued each time; what differs. `begun`: it was killed once."""
    name = f"killed-{workers}"
    out = runs.folder / name if begun is None else runs.copied(begun, name)
    for launch, step in [*enumerate(random_steps(runs, num_kills, rng))][begun is not None :]:
        print(f"  {runs.kill_at(out, launch, workers, step, rng)}", flush=True)
    runs.finish(out, num_kills, workers)
    return differing_packs(runs, expected, out) + differing_rows(expected, out)


def other_workers(
    runs: Runs, expected: Path, path: Sequence[int], rng: np.random.Generator, *, begun: Path | None = None
) -> list[str]:
    """One run that is killed and continued on other numbers of workers; what differs more than it may. `begun`: it was
    killed on the first number."""
    name = "-".join(["moved", *map(str, path)])
    out = runs.folder / name if begun is None else runs.copied(begun, name)
    launches = enumerate(zip(path, random_steps(runs, len(path) - 1, rng), strict=False))
    for launch, (workers, step) in [*launches][begun is not None :]:
        print(f"  {workers} workers: {runs.kill_at(out, launch, workers, step, rng)}", flush=True)
    runs.finish(out, len(path) - 1, path[-1])
    whole, got = step_rows(expected), step_rows(out)
    differences = {step: abs(got[step]["loss"] / whole[step]["loss"] - 1) for step in whole}
    lines = differing_packs(runs, expected, out)
    for launch, workers in enumerate(path[1:], 1):
        first = min(one.step for one in seen.read(runs.records(out) / f"{launch:02d}"))
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
