"""Kills trainings of autoencoders at random steps, continues them, and compares them with undisturbed ones.

    python -m benchmarks.train_autoencoder_kill [--kills 3] [--steps 40] [--seed 0] [--only temporal_decoder]

A network with each bottleneck (KL, VQ, FSQ) and an adversary is trained on a small curated dataset, and so are
temporal layers in the decoder of a network of images. Each kill is `kill -9` of a process that this script started, in
the middle of a step drawn at random; then the same command runs again. Equal to the last bit must be: every row of
`metrics.jsonl`, and the files in RUN/weights.

Exit code 1 where something differs.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import described
from tests.support.curated import curated
from tests.support.forks import forks, run_command
from train.monitor.metrics import read_metrics

BOTTLENECKS = {"kl": "{kind: kl}", "vq": "{kind: vq, codebook_size: 64}", "fsq": "{kind: fsq, levels: [8, 5, 5]}"}
TEMPORAL = "temporal_decoder"
IMAGES = "{over_time: false, temporal_stride: 1, spatial_stride: 4, latent_channels: 4, widths: [8]}"
SETTINGS = (
    "clips={sizes_px: [[32, 32]], lengths: [1, 5], batch_px: 20480, decoded_px: 48, short_side_px: [32, 48]}",
    "loss.adversary={width: 8, depth: 2, start: 5, lecam: 0.1}",
    "optimizer.warmup_steps=0",
    "checkpoint.every=4",
    "held_out.every=10",
    "num_measured=2",
    "device=cpu",
)
POLL_S = 0.002


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=3, help="of each run")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=(*BOTTLENECKS, TEMPORAL))
    arguments = parser.parse_args()
    print(described())
    rng = np.random.default_rng(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="kill-") as temporary:
        dataset = curated(Path(temporary)).url
        equal = [
            prove(Path(temporary), dataset, name, arguments.steps, arguments.kills, rng)
            for name in (*BOTTLENECKS, TEMPORAL)
            if arguments.only in (None, name)
        ]
    sys.exit(0 if all(equal) else 1)


def prove(folder: Path, dataset: str, name: str, steps: int, num_kills: int, rng: np.random.Generator) -> bool:
    """One undisturbed run and one that is killed so many times; True if they are equal."""
    whole, killed = folder / f"{name}-whole", folder / f"{name}-killed"
    if name == TEMPORAL:
        base = folder / "base"
        start(dataset, base, (f"network={IMAGES}", "clips.lengths=[1]"), 4).join()
        settings: tuple[str, ...] = (f"temporal_decoder.base={{kind: reelpack, path: {base / 'weights'}}}",)
    else:
        settings = (f"network={{widths: [8, 12, 16], latent_channels: 4, bottleneck: {BOTTLENECKS[name]}}}",)
    start(dataset, whole, settings, steps).join()
    edges = np.linspace(1, steps - 1, num_kills + 1).astype(int)
    for low, high in pairwise(edges):
        print(f"  {kill_after(int(rng.integers(low, high)), start(dataset, killed, settings, steps), killed, rng)}")
    start(dataset, killed, settings, steps).join()
    wrong = [f"row {n}: {a} and {b}" for n, (a, b) in enumerate(zip(rows(whole), rows(killed), strict=True)) if a != b]
    for file in ("model.safetensors", "config.json"):
        if (whole / "weights" / file).read_bytes() != (killed / "weights" / file).read_bytes():
            wrong.append(f"weights/{file} differ")
    print(f"{name}: {num_kills} kills, {'EQUAL' if not wrong else 'DIFFERENT'}", *wrong[:8], sep="\n  ", flush=True)
    return not wrong


def start(dataset: str, out: Path, settings: Sequence[str], steps: int) -> BaseProcess:
    given = (*SETTINGS, *settings, f"steps={steps}")
    words = [word for setting in given for word in ("--set", f"train_autoencoder.{setting}")]
    command = ["train-autoencoder", dataset, "--out", str(out), *words]
    process = forks().Process(target=run_command, args=(command, out.with_suffix(".log")))
    process.start()
    return process


def kill_after(step: int, process: BaseProcess, out: Path, rng: np.random.Generator) -> str:
    """Kill the process in the middle of the step after `step`; what happened.

    Raises:
        RuntimeError: it ended before.
    """
    while (found := steps_of(out)) < step:
        if not process.is_alive():
            raise RuntimeError(f"{out.name} ended before step {step}:\n{out.with_suffix('.log').read_text()[-3000:]}")
        time.sleep(POLL_S)
    time.sleep(float(rng.random()) * read_metrics(out / "metrics.jsonl")[-1].get("seconds", 0.0))
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    saved = sorted(path.name for path in (out / "checkpoints").glob("step-*"))
    return f"killed after step {max(found, steps_of(out))}, {f'saved {saved[-1]}' if saved else 'nothing saved'}"


def steps_of(out: Path) -> int:
    return max((row["step"] for row in read_metrics(out / "metrics.jsonl") if "loss" in row), default=0)


def rows(out: Path) -> list[dict[str, Any]]:
    return [{name: row[name] for name in row if name != "seconds"} for row in read_metrics(out / "metrics.jsonl")]


if __name__ == "__main__":
    main()
