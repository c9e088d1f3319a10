"""Kills training runs at random steps, continues them, and compares what they learned and saw with undisturbed runs.

    python -m benchmarks.train_kill [--kills 4] [--steps 60] [--seed 0] [--only Ray]
    python -m benchmarks.train_kill --model all --steps 16 --kills 1

Each kill is `kill -9` of a process that this script started, in the middle of a step drawn at random; then the same
command runs again. Four things are shown, on a generated dataset and a tiny model:

- On as many workers as before the run goes on bitwise: every row of `metrics.jsonl`, the last weights and averages.
- From 2 workers to 1, from 2 to 3, and along 2, 1, 3: the same samples lie in the same packs of the same steps, with
  the same timesteps and noise; the first loss after the first move is that of the undisturbed run to 1e-6, relatively.
  The rest is as near as the order of summation allows, and printed.
- Ray Train finds a killed worker by itself and restarts the run from its last checkpoint; bitwise, too.

With `--model` the first of these is shown of a member of the family of denoisers (`MODELS`), or of all.

Exit code 1 where something differs that must not.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.machine import described
from tests.support.killed_runs import MODEL, Runs, on_ray, other_workers, same_workers

SINCOS = {**MODEL, "position": "sincos"}
MODELS: Mapping[str, Mapping[str, Any]] = {
    "joint": MODEL,
    "factorised": {**MODEL, "mixer": {"pattern": "alternating"}},
    "walt": {**MODEL, "depth": 4, "mixer": {"pattern": "windows", "spacetime_window": [None, 2, 2]}},
    "mamba": {**SINCOS, "mixer": {"kind": "mamba", "state": 8, "chunk": 16}},
    "sliding": {**MODEL, "mixer": {"kind": "sliding_attention", "reach": 8}},
    "samba": {**SINCOS, "mixer": {"kind": "samba", "mamba": {"state": 8, "chunk": 16}, "attention": {"reach": 8}}},
    "unet": {
        "kind": "unet", "width": 16, "multipliers": [1, 2], "depths": [1, 1], "attention_levels": [1],
        "head_width": 8, "num_groups": 4, "condition_width": 32,
    },
}  # fmt: skip
"""`train.model` of tiny members."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=4, help="of the run on one worker; others have fewer")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="proofs whose name contains this")
    parser.add_argument("--model", choices=(*MODELS, "all"), help="a member of the family, on one worker")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that a stop ends the processes too
    torch.set_num_threads(1)
    print(described())
    with tempfile.TemporaryDirectory(prefix="kill-", ignore_cleanup_errors=True) as temporary:
        if arguments.model:
            names = list(MODELS) if arguments.model == "all" else [arguments.model]
            equal = prove_models(Path(temporary), arguments.steps, names, arguments.kills, arguments.seed)
            sys.exit(0 if equal else 1)
        runs = Runs(folder=Path(temporary), num_steps=arguments.steps)
        sys.exit(0 if prove(runs, arguments.kills, arguments.seed, arguments.only) else 1)


def prove_models(folder: Path, num_steps: int, names: list[str], num_kills: int, seed: int) -> bool:
    """A run of each member, killed and continued on one worker; True if each is that which nobody disturbed."""
    rng, equal = np.random.default_rng(seed), 0
    for name in names:
        print(name, flush=True)
        runs = Runs(folder=folder / name, num_steps=num_steps, model=MODELS[name])
        runs.folder.mkdir()
        runs.prepare()
        undisturbed = runs.folder / "undisturbed-1"
        runs.finish(undisturbed, 0, 1)
        wrong = same_workers(runs, undisturbed, 1, num_kills, rng)
        equal += not wrong
        print(f"  {'EQUAL' if not wrong else 'DIFFERENT'}", *wrong[:8], sep="\n    ", flush=True)
    print(f"{equal} of {len(names)} equal to the last bit")
    return equal == len(names)


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
