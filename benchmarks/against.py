"""This checkout beside another one of it, in one run: CPU seconds of a step and of the loader, and the losses.

    git worktree add ../before COMMIT
    python -m benchmarks.against ../before [--only step,compiled,loader] [--rounds 5] [--out FILE.json]

step      forward, backward, clipping, AdamW and average: width 192, depth 4, packs of 2,048 tokens, one thread
compiled  the same with compiled blocks here, beside the other checkout without them; needs a C++ compiler
loader    a pack of 16,384 tokens from stored latents of 16 channels and captions of 4,096 features, all threads

The two run in turn, each in a process of its own, with the same weights and samples. A figure is the least of a
process (steps) or its mean (loader), a ratio that of the medians over the rounds. `losses` is the largest difference
between losses of the same step, relatively, over 20 steps of training. The other checkout can be one of before the
modules of `train` moved to packages (f7cb7f8), or a later one.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

WIDTH, DEPTH, NUM_HEADS, BUDGET = 192, 4, 4, 2048
NUM_LOSSES, NUM_PACKS = 20, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="another checkout")
    parser.add_argument("--only", default=",".join(MEASURES), help="sections, with commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="a JSON file")
    parser.add_argument("--measure", choices=MEASURES, help=argparse.SUPPRESS)  # in a process of its own
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(MEASURES[arguments.measure]()))
        return
    here = Path(__file__).resolve().parents[1]
    trees = {"before": arguments.before.resolve(), "here": here}
    machine = {
        name: _python(tree, "-c", "from benchmarks.machine import described; print(described())")
        for name, tree in trees.items()
    }
    print("\n".join(f"{name}: {text.strip()}" for name, text in machine.items()), flush=True)
    figures: dict[str, Any] = {"machine": machine}
    for section in arguments.only.split(","):
        figures[section] = _compare(section, trees, arguments.rounds)
        print(f"{section}: {figures[section]}", flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=2) + "\n")


def _compare(section: str, trees: dict[str, Path], rounds: int) -> dict[str, Any]:
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in trees}
    for _ in range(rounds):
        for name, tree in trees.items():
            measure = "step" if (section, name) == ("compiled", "before") else section
            found[name].append(json.loads(_python(tree, __file__, ".", "--measure", measure)))
    seconds = {name: [one["seconds"] for one in ones] for name, ones in found.items()}
    figures: dict[str, Any] = {f"{name}_s": median(values) for name, values in seconds.items()}
    figures["ratio"] = figures["before_s"] / figures["here_s"]
    figures["ratios"] = [round(b / h, 3) for b, h in zip(seconds["before"], seconds["here"], strict=True)]
    if losses := [ones[0].get("losses") for ones in found.values() if "losses" in ones[0]]:
        figures["losses"] = max(abs(a / b - 1) for a, b in zip(*losses, strict=True))
    return figures


def _python(tree: Path, *arguments: str) -> str:
    """What Python prints, of a process that imports this checkout's packages from `tree`."""
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", *arguments]
    return subprocess.run(command, env=environment, cwd=tree, check=True, text=True, stdout=subprocess.PIPE).stdout


def _module(*names: str) -> Any:
    """The first of these modules that there is. The earliest name comes first: an editable install may have the later
    ones where the checkout has none."""
    for name in names:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if not error.name or not name.startswith(error.name):
                raise
    raise ModuleNotFoundError(f"this checkout has none of {', '.join(names)}")


def measure_step(*, is_compiled: bool = False) -> dict[str, Any]:
    """Least CPU seconds of a step over packs of the mixed corpus, and the losses of the first steps."""
    import torch

    from benchmarks.pack import cut_to_budget, mixed_corpus
    from train.model.dit import DiT, DiTConfig
    from train.objective.flow import FlowConfig

    batching = _module("benchmarks.batching", "tests.support.batching")
    parallel = _module("train.parallelize", "train.distributed.parallelize")
    ema, optim = _module("train.ema", "train.optim.ema"), _module("train.optimizer", "train.optim.optimizer")
    ranks = _module("train.parallelize", "train.distributed.ranks")
    one_rank = getattr(ranks, "RankGrid", None) or ranks.Worker

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = DiTConfig(width=WIDTH, depth=DEPTH, num_heads=NUM_HEADS)
    model = DiT(config, channels=batching.CHANNELS, text_dim=batching.TEXT_DIM)
    drawn = torch.Generator().manual_seed(0)
    for _, parameter in sorted(model.named_parameters()):  # nothing is zero, and no draw depends on an order
        torch.nn.init.normal_(parameter, std=0.02, generator=drawn)
    alone = one_rank(rank=0, world_size=1, device=torch.device("cpu"))
    parallel.parallelize(model, alone, parallel.ParallelConfig(compile=is_compiled))
    optimizer = optim.build_optimizer(model, optim.OptimizerConfig())
    average = ema.EMA(model, ema.EMAConfig())
    objective = FlowConfig().build()
    grids = cut_to_budget(-(-mixed_corpus(96) // 4), BUDGET)
    batches = [one.packed for one in batching.packed(grids, BUDGET, config, torch.device("cpu"))][:NUM_PACKS]
    losses, seconds = [], []
    for step in range(NUM_LOSSES):
        batch = batches[step % len(batches)]
        start = time.process_time()
        loss = objective.loss_sum(objective.token_losses(model, batch), batch) / batch.segments.num_segments
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(model, step)
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.process_time() - start)
        losses.append(loss.item())
    turns = [min(seconds[i :: len(batches)][1:]) for i in range(len(batches))]  # each pack at its best
    return {"seconds": sum(turns) / len(turns), "losses": losses}


def measure_loader() -> dict[str, Any]:
    """Mean CPU seconds of a pack, of all threads of the process."""
    import tempfile

    import numpy as np
    import torch

    from train.data.load import DataConfig, PackLoader
    from train.data.mix import read_datasets
    from train.data.plan import Cursor
    from train.model.dit import DiTConfig
    from train.objective.flow import FlowConfig

    latents = _module("benchmarks.latents", "tests.support.latents")
    torch.set_num_threads(1)
    channels, text_dim = 16, 4096
    latents.CHANNELS, latents.TEXT_DIM = channels, text_dim
    latents.LATENTS_RECORD = {**latents.LATENTS_RECORD, "channels": channels}
    latents.TEXT_RECORD = {**latents.TEXT_RECORD, "dim": text_dim}
    rng = np.random.default_rng(0)
    clips = [
        latents.SyntheticClip(
            clip_id=latents.content_digest("against", str(i)),
            split="train",
            latent=rng.standard_normal((channels, 5, 32, 32)).astype(np.float16),
            short=rng.standard_normal((100, text_dim)).astype(np.float16),
            dense=None,
        )
        for i in range(60)
    ]
    with tempfile.TemporaryDirectory(prefix="against-") as folder:
        dataset = str(latents.write_dataset(Path(folder) / "dataset", clips))
        model = DiTConfig(width=1152, depth=28, num_heads=16)
        data = DataConfig.model_validate({"plan": {"token_budget": 16_384}})
        manifest = read_datasets(dataset, split="train", data=data, model=model)
        steps = PackLoader(manifest, FlowConfig().build(), data, model=model, seed=0).steps(Cursor(), 0, 1)
        for _turn in range(2):
            next(steps)
        start, packs = time.process_time(), 0
        for _turn in range(8):
            packs += len(next(steps).batches)
        return {"seconds": (time.process_time() - start) / packs}


MEASURES: dict[str, Callable[[], dict[str, Any]]] = {
    "step": measure_step,
    "compiled": partial(measure_step, is_compiled=True),
    "loader": measure_loader,
}


if __name__ == "__main__":
    main()
