"""Conditioning × pattern: each combination trained briefly on one dataset, on the same samples with the same noise.

    python -m benchmarks.table DATASET OUT [--steps 200] [--seeds 1]

DATASET is one that `reelpack encode` has finished, such as the demo's (`demo_output/dataset`), with held-out clips.
The configuration is the demo's, but for the model, which is smaller, and the number of steps. Every cell meets the
same packs: equal samples, tokens, noise and timesteps, not equal FLOPs or parameters. Captions come in as the vectors
do where these come in as tokens (in-context, cross-attention), and by cross-attention beside adaLN and adaLN-Zero.

Four tables of Markdown, also in OUT/table.md: loss of the held-out clips with fixed noise (averaged weights; with
several seeds their mean and half their range), tokens per second of forward and backward pass (one pack, the cells
interleaved, median of the repeats; on CPU by the CPU seconds of one thread), FLOPs per token of a step, parameters.
A cell that was trained is kept in OUT; a stopped one goes on from its checkpoint.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any, get_args

import torch

from benchmarks.machine import described
from curate.device import pick_device
from pipelines.config import load_config
from tests.support.timing import median_seconds
from train.data.load import PackLoader
from train.data.manifest import Manifest, read_manifest
from train.data.plan import Cursor
from train.loop import train
from train.model.base import Denoiser
from train.model.dit_config import Conditioning
from train.model.mixers.attention_config import Pattern
from train.monitor.metrics import TrainSummary
from train.run.config import TrainConfig
from train.run.folder import RunRecord, build_model

CONDITIONINGS: tuple[Conditioning, ...] = get_args(Conditioning)
PATTERNS: tuple[Pattern, ...] = tuple(pattern for pattern in get_args(Pattern) if pattern != "alternating")
"""ViViT's four and W.A.L.T's; `alternating` is the factorised self-attention of half as many layers."""

MODEL = {
    "width": 96,
    "depth": 4,
    "num_heads": 4,
    "position": "rope",
}
# The demo's frames are 5 by 8 patches, or 8 by 5: windows that are parts of them.
WINDOWS = {"spatial_window": [1, 4, 4], "spacetime_window": [3, 3, 3], "shift_windows": True}
NUM_REPEATS = 7


@dataclass(frozen=True, kw_only=True)
class Cell:
    conditioning: Conditioning
    pattern: Pattern

    def config(self, steps: int, seed: int) -> TrainConfig:
        text = "in_context" if self.conditioning == "in_context" else "cross_attention"
        mixer = WINDOWS | {"kind": "attention", "pattern": self.pattern}
        model = MODEL | {"conditioning": self.conditioning, "mixer": mixer, "text": text}
        evaluate = {"held_out": {"every": steps, "first": 0}, "captions": {"every": 0}}
        demo = load_config("demo").train.model_dump(mode="json")
        changes = {"steps": steps, "seed": seed, "model": model, "evaluate": evaluate, "checkpoint": {"every": 50}}
        return TrainConfig.model_validate(demo | changes)


CELLS = tuple(Cell(conditioning=c, pattern=p) for c, p in product(CONDITIONINGS, PATTERNS))
Values = Mapping[Cell, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    print(described(), flush=True)
    print(table(arguments.dataset, arguments.out, arguments.steps, arguments.seeds))


def table(dataset: str, out: Path, steps: int, num_seeds: int) -> str:
    """Train what is not trained yet, and write the tables."""
    val_clips = len(read_manifest(dataset, split="val", patch=(1, 2, 2)))  # raises without any
    losses: dict[Cell, list[float]] = {cell: [] for cell in CELLS}
    for number, (seed, cell) in enumerate(product(range(num_seeds), CELLS), 1):
        start = time.monotonic()
        summary = trained(cell.config(steps, seed), dataset, out / f"{cell.conditioning}.{cell.pattern}.{seed}")
        losses[cell].append(summary["evaluated_last"]["val_loss_ema"])
        print(
            f"{number}/{num_seeds * len(CELLS)} {cell.conditioning} {cell.pattern}: "
            f"{losses[cell][-1]:.4f} in {time.monotonic() - start:.0f} s",
            flush=True,
        )
    speeds = Speeds(dataset, steps)
    told = {
        f"Held-out loss ({val_clips} clips, fixed noise)": {cell: spread(found) for cell, found in losses.items()},
        "Tokens per second, forward and backward": speeds.tokens_per_s(),
        "MFLOP per token and step": speeds.megaflops(),
        "Parameters, millions": speeds.parameters(),
    }
    head = (
        f"{described()}\n\nEvery cell: {steps} steps, {summary['samples']:,} samples, {summary['tokens']:,} tokens, "
        f"width {MODEL['width']}, depth {MODEL['depth']}, {num_seeds} seed(s)."
    )
    text = "\n\n".join([head, *(f"**{title}**\n\n{markdown(values)}" for title, values in told.items())])
    (out / "table.md").write_text(text + "\n")
    return text


def trained(config: TrainConfig, dataset: str, run: Path) -> dict[str, Any]:
    """The summary of a run, trained to its end if it is not."""
    summary = run / "summary.json"
    if not summary.exists() or json.loads(summary.read_text())["steps"] != config.steps:
        found: TrainSummary = train(config, dataset, run)
        assert found.steps == config.steps
    return json.loads(summary.read_text())


class Speeds:
    """What a step of each cell costs, on the first pack of the plan."""

    def __init__(self, dataset: str, steps: int) -> None:
        manifest = read_manifest(dataset, split="train", patch=(1, 2, 2))
        self.parts = {cell: self._parts(cell, manifest, dataset, steps) for cell in CELLS}

    @staticmethod
    def _parts(cell: Cell, manifest: Manifest, dataset: str, steps: int) -> tuple[Denoiser, Any, Callable]:
        config = cell.config(steps, 0)
        device = pick_device(config.device)
        objective = config.objective.build()
        loader = PackLoader(manifest, objective, config.data, model=config.model, seed=0)
        batch = next(iter(loader.steps(Cursor(), 0, 1))).batches[0].to(device)
        model = build_model(config, RunRecord.of(manifest)).to(device)

        def step() -> None:
            objective.loss_sum(objective.token_losses(model, batch), batch).backward()

        return model, batch, step

    def tokens_per_s(self) -> Values:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        device = next(next(iter(self.parts.values()))[0].parameters()).device
        ways = {f"{cell}": step for cell, (_, _, step) in self.parts.items()}
        seconds = median_seconds(ways, device, NUM_REPEATS)
        torch.set_num_threads(threads)
        return {
            cell: f"{batch.segments.num_tokens / seconds[f'{cell}']:,.0f}"
            for cell, (_, batch, _) in self.parts.items()
        }

    def megaflops(self) -> Values:
        return {
            cell: f"{3 * model.flops(batch) / batch.segments.num_tokens / 1e6:.2f}"
            for cell, (model, batch, _) in self.parts.items()
        }

    def parameters(self) -> Values:
        return {
            cell: f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f}"
            for cell, (model, _, _) in self.parts.items()
        }


def spread(losses: list[float]) -> str:
    """Mean, and of several half the range."""
    if len(losses) == 1:
        return f"{losses[0]:.4f}"
    return f"{mean(losses):.4f} ± {(max(losses) - min(losses)) / 2:.4f}"


def markdown(values: Values) -> str:
    head = ["| |", *(f" {pattern.replace('_', ' ')} |" for pattern in PATTERNS)]
    lines = ["".join(head), "| --- |" + " ---: |" * len(PATTERNS)]
    for conditioning in CONDITIONINGS:
        cells = (values[Cell(conditioning=conditioning, pattern=pattern)] for pattern in PATTERNS)
        lines.append(f"| {conditioning.replace('_', ' ')} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
