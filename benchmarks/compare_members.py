"""The denoisers of the family on two datasets: equal parameters, equal operations, three seeds.

    python -m benchmarks.compare_members OUT [--datasets shapes demo] [--seeds 3] [--steps 120]

OUT/shapes is made by `benchmarks.moving_shapes`, and OUT/demo of the demo's films, curated, captioned and encoded as
`reelpack demo` does; both have latents of the embedded autoencoder. `reelpack compare` does the rest: widths that give
the parameters of the first member, steps that take its operations, held-out loss with fixed noise. The rate is
constant, so that a run is a whole run at each of its evaluations: losses at equal steps, hence equal samples, are read
from the same runs. Speed and memory of a step are measured apart, on equal packs and on one thread: speed with the
members in turn, memory in a process for each.

Tables of Markdown, also in OUT/tables.md. What is done is kept in OUT; the same command resumes.
"""

import argparse
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch

from benchmarks.machine import described
from benchmarks.moving_shapes import make
from pipelines.config import Config, load_config
from pipelines.demo.inputs import make_demo_inputs, write_titles
from pipelines.drivers.caption import caption
from pipelines.drivers.compare import Compared, compare
from pipelines.drivers.curate import curate
from pipelines.drivers.encode import encode
from pipelines.execute.own_process import in_own_process
from tests.support.timing import median_seconds
from train.autoencoder.peak_memory import PeakMemory
from train.data.load import PackLoader
from train.data.manifest import read_manifest
from train.data.plan import Cursor
from train.run.folder import build_model, read_run

DIT = {"width": 72, "depth": 4, "num_heads": 4}
LINEAR = DIT | {"num_heads": 2, "position": "sincos"}
MEMBERS: Mapping[str, dict[str, Any]] = {
    "dit-joint": DIT,
    "dit-factorised": DIT | {"mixer": {"pattern": "alternating"}},
    "walt": DIT | {
        "mixer": {"pattern": "windows", "spacetime_window": [None, 2, 2]}, "adaln": "lora", "adaln_rank": 16,
        "cross_attention_in": "spatial", "cross_attention_over": "joint",
    },
    "mamba": LINEAR | {"mixer": {"kind": "mamba"}},
    "samba": LINEAR | {"mixer": {"kind": "samba", "attention": {"reach": 32}}},
    "unet": {
        "kind": "unet", "width": 20, "multipliers": [1, 2], "depths": [1, 1], "attention_levels": [1],
        "head_width": 4, "num_groups": 4, "condition_width": 140,
    },
}  # fmt: skip
"""`train.model` of each; the first one has the parameters that the others are brought to."""
NUM_EVALUATIONS = 2
NUM_REPEATS = 7
NUM_TIMED = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=list(DATASETS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=120, help="of the first member")
    arguments = parser.parse_args()
    told = [described()]
    for name in arguments.datasets:
        dataset = arguments.out / name
        DATASETS[name](dataset)
        variants = {member: config(model, arguments.steps) for member, model in MEMBERS.items()}
        found, page = compare(
            f"{dataset}/dataset",
            f"{dataset}/runs",
            variants,
            budget="flops",
            match_parameters=True,
            seeds=range(arguments.seeds),
        )
        told.append(table(name, found, steps_of(f"{dataset}/dataset", found)))
        print(page)
    text = "\n\n".join(told)
    (arguments.out / "tables.md").write_text(text + "\n")
    print(text)


def config(model: Mapping[str, Any], steps: int) -> Config:
    train = {
        "steps": steps,
        "device": "cpu",
        "model": model,
        "data": {"plan": {"token_budget": 512}},
        "optimizer": {"lr": 2e-3, "warmup_steps": 10},
        "ema": {"decay": 0.95},
        "evaluate": {
            "held_out": {"every": math.ceil(steps / NUM_EVALUATIONS), "first": 0, "max_clips": 24},
            "captions": {"every": 0},
        },
        "checkpoint": {"every": 40, "keep": 1},
    }
    return load_config(None, [f"train={json.dumps(train)}"])


def shapes(folder: Path) -> None:
    make(folder / "dataset")


def demo(folder: Path) -> None:
    """The demo's dataset, without Ray."""
    if (folder / "encoded").exists():
        return
    settings, dataset = load_config("demo", ["execute.executor=local"]), str(folder / "dataset")
    make_demo_inputs(folder / "inputs")
    write_titles(folder / "titles.csv")
    curate([str(folder / "inputs")], dataset, settings, sidecar=str(folder / "titles.csv"))
    caption(dataset, settings)
    encode(dataset, settings)
    (folder / "encoded").touch()


DATASETS: Mapping[str, Callable[[Path], None]] = {"shapes": shapes, "demo": demo}


@dataclass(frozen=True, kw_only=True)
class Step:
    """Forward and backward of a member: tokens of the first member's patch per CPU second, operations per token, the
    most bytes that the process takes on top of what it had before."""

    tokens_per_s: float
    flops: float
    peak_bytes: int


def steps_of(dataset: str, found: list[Compared]) -> dict[str, Step]:
    """On the first packs of seed 0."""
    torch.set_num_threads(1)
    members = {one.name: Member(dataset, one.runs[0].folder) for one in found}
    tokens = min(member.num_tokens for member in members.values())  # the largest patch has the fewest
    seconds = median_seconds({name: member.step for name, member in members.items()}, torch.device("cpu"), NUM_REPEATS)
    return {
        name: Step(
            tokens_per_s=tokens / seconds[name],
            flops=member.flops / tokens,
            peak_bytes=in_own_process(peak_bytes, dataset, member.folder),
        )
        for name, member in members.items()
    }


class Member:
    """A run's model at its start, and its first packs."""

    def __init__(self, dataset: str, folder: str) -> None:
        settings, record = read_run(Path(folder))
        manifest = read_manifest(dataset, split="train", patch=settings.model.patch)
        self.folder, self.objective = folder, settings.objective.build()
        loader = PackLoader(manifest, self.objective, settings.data, model=settings.model, seed=0)
        steps = loader.steps(Cursor(), 0, 1)
        self.batches = [next(steps).batches[0] for _ in range(NUM_TIMED)]
        self.model = build_model(settings, record)
        self.num_tokens = sum(batch.segments.num_tokens for batch in self.batches)
        self.flops = sum(3 * self.model.flops(batch) for batch in self.batches)

    def step(self) -> None:
        for batch in self.batches:
            self.objective.loss_sum(self.objective.token_losses(self.model, batch), batch).backward()


def peak_bytes(dataset: str, folder: str) -> int:
    """Of the steps, on top of what this process has before."""
    torch.set_num_threads(1)
    member = Member(dataset, folder)
    with PeakMemory(torch.device("cpu")) as peak:
        member.step()
    assert peak.bytes is not None, "needs Linux"
    return peak.bytes


def table(title: str, found: list[Compared], steps: Mapping[str, Step]) -> str:
    """Losses at equal operations and at equal steps; best first by the former."""
    common = min(one.steps for one in found)
    head = (
        f"loss at {min(one.tflop for one in found):.2f} TFLOP",
        f"loss at {common} steps",
        *("parameters", "steps", "MFLOP/token", "tokens/s", "memory, MiB"),
    )
    lines = [f"**{title}**", "", f"| member | {' | '.join(head)} |", f"| --- |{' ---: |' * len(head)}"]
    for one in found:
        at_common = [at_step(run.curve, common) for run in one.runs]
        step = steps[one.name]
        cells = (
            told([run.loss for run in one.runs]),
            told(at_common),
            f"{one.num_parameters:,}",
            f"{one.steps}",
            f"{step.flops / 1e6:.2f}",
            f"{step.tokens_per_s:,.0f}",
            f"{step.peak_bytes / 2**20:,.0f}",
        )
        lines.append(f"| {one.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def at_step(curve: tuple[tuple[int, float, float], ...], step: int) -> float:
    """The held-out loss, between two evaluations in a straight line."""
    return float(np.interp(step, [at for at, _, _ in curve], [loss for _, _, loss in curve]))


def told(losses: list[float]) -> str:
    """Mean, and the standard deviation of several."""
    return f"{fmean(losses):.4f}" + (f" ± {stdev(losses):.4f}" if len(losses) > 1 else "")


if __name__ == "__main__":
    main()
