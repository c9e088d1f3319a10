"""The denoisers of the family on two datasets: equal parameters, equal operations, three seeds.

    python -m benchmarks.compare_members OUT [--datasets shapes demo] [--seeds 3] [--steps 240]

OUT/shapes is made by `benchmarks.moving_shapes`, and OUT/demo of the demo's films, curated, captioned and encoded as
`reelpack demo` does; both have latents of the embedded autoencoder. `reelpack compare` does the rest: widths that give
the parameters of the first member, steps that take its operations, held-out loss with fixed noise. The rate is
constant, so that a run is a whole run at each of its evaluations: losses at equal steps, hence equal samples, are read
from the same runs. Speed and memory of a step are measured apart, on equal packs, the members in turn, on one thread.

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
from tests.support.timing import median_seconds
from train.data.load import PackLoader
from train.data.manifest import read_manifest
from train.data.plan import Cursor
from train.run.config import TrainConfig
from train.run.folder import RunRecord, build_model, read_run

DIT = {"width": 72, "depth": 4, "num_heads": 4}
LINEAR = DIT | {"num_heads": 2, "position": "sincos"}
MEMBERS: Mapping[str, dict[str, Any]] = {
    "dit-joint": DIT,
    "dit-factorised": DIT | {"mixer": {"pattern": "alternating"}},
    "walt": DIT | {"mixer": {"pattern": "windows", "spacetime_window": [None, 2, 2]}},
    "mamba": LINEAR | {"mixer": {"kind": "mamba"}},
    "samba": LINEAR | {"mixer": {"kind": "samba", "attention": {"reach": 32}}},
    "unet": {
        "kind": "unet", "width": 20, "multipliers": [1, 2], "depths": [1, 1], "attention_levels": [1],
        "head_width": 4, "num_groups": 4, "condition_width": 140,
    },
}  # fmt: skip
"""`train.model` of each; the first one has the parameters that the others are brought to."""
NUM_EVALUATIONS = 4
NUM_REPEATS = 7
NUM_TIMED = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=list(DATASETS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=240, help="of the first member")
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
        "data": {"plan": {"token_budget": 1024}},
        "optimizer": {"lr": 2e-3, "warmup_steps": 20},
        "ema": {"decay": 0.98},
        "evaluate": {
            "held_out": {"every": math.ceil(steps / NUM_EVALUATIONS), "first": 0, "max_clips": 32},
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
    """Forward and backward of a member: tokens of the first member's patch per CPU second, bytes that the backward
    pass needs per token, operations per token."""

    tokens_per_s: float
    kept: float
    flops: float


def steps_of(dataset: str, found: list[Compared]) -> dict[str, Step]:
    """On the first packs of seed 0."""
    torch.set_num_threads(1)
    ways, kept, flops, tokens = dict[str, Callable[[], None]](), dict[str, int](), dict[str, float](), dict[str, int]()
    for one in found:
        settings, record = read_run(Path(one.runs[0].folder))
        ways[one.name], kept[one.name], flops[one.name], tokens[one.name] = _step(dataset, settings, record)
    first = min(tokens.values())  # the largest patch has the fewest tokens
    seconds = median_seconds(ways, torch.device("cpu"), NUM_REPEATS)
    return {
        name: Step(tokens_per_s=first / seconds[name], kept=kept[name] / first, flops=flops[name] / first)
        for name in ways
    }


def _step(dataset: str, settings: TrainConfig, record: RunRecord) -> tuple[Callable[[], None], int, float, int]:
    manifest = read_manifest(dataset, split="train", patch=settings.model.patch)
    objective = settings.objective.build()
    loader = PackLoader(manifest, objective, settings.data, model=settings.model, seed=0)
    steps = loader.steps(Cursor(), 0, 1)
    batches = [next(steps).batches[0] for _ in range(NUM_TIMED)]
    model = build_model(settings, record)

    def step() -> None:
        for batch in batches:
            objective.loss_sum(objective.token_losses(model, batch), batch).backward()

    storages: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    held = []  # so that no storage is freed and its address given to another
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        for batch in batches:
            held.append(objective.loss_sum(objective.token_losses(model, batch), batch))
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = sum(size for place, size in storages.items() if place not in weights)
    num_tokens = sum(batch.segments.num_tokens for batch in batches)
    return step, kept, sum(3 * model.flops(batch) for batch in batches), num_tokens


def table(title: str, found: list[Compared], steps: Mapping[str, Step]) -> str:
    """Losses at equal operations and at equal steps; best first by the former."""
    common = min(one.steps for one in found)
    head = (
        f"loss at {min(one.tflop for one in found):.2f} TFLOP",
        f"loss at {common} steps",
        *("parameters", "steps", "tokens/s", "MFLOP/token", "kept for backward, KiB/token", "process, GiB"),
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
            f"{step.tokens_per_s:,.0f}",
            f"{step.flops / 1e6:.2f}",
            f"{step.kept / 1024:.1f}",
            f"{max(run.memory_gib for run in one.runs):.2f}",
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
