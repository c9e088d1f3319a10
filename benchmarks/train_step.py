"""What a training step costs: packs beside padding, buckets and fixed shapes; kernels, patterns, compilation; stalls.

    python -m benchmarks.train_step [--out FILE.json] [--model wan-1.3b] [--only batching,…] [--dataset DATASET]

On CUDA: DiT-XL as a video model, bfloat16, packs of 16,384 and 32,768 tokens of the mixed corpus of `benchmarks.pack`.
On CPU: a small model and the same corpus with sides four times smaller, on one thread, timed by its CPU seconds, which
other work on the machine lengthens less. Compared ways run in turn, repeat by repeat; figures are medians, ratios are
those of one run. `--model` takes another one: `wan-1.3b` has Wan 2.1's layout and size (captions have states of 384
numbers instead of 4,096), `wan-small` is it for a CPU; weights are random.

batching  real tokens per second, forward and backward, of all samples: packed, padded, bucketed
          (benchmarks/batching.py says how)
uniform   the packing tax: our model on packs of one shape beside the same weights without segments, (B, N, D)
diffusers the same of Wan, beside diffusers' own class on batches of that shape
kernels   each pattern with each attention kernel of the device, with `--compile` compiled too
mfu       CUDA only: whole steps with clipping and AdamW; model FLOPs utilization and peak memory
loop      a run of `train`: share of its time that it waits for the loader, and the longest stall by a checkpoint, in
          steps; on DATASET, or on a generated one

With `--out` all of it is written as JSON, with hardware and commit. Exit code 1 where a promise for the device is
missed.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, get_args

import numpy as np
import torch
from torch import nn

from benchmarks.machine import commit, described
from benchmarks.pack import cut_to_budget, mixed_corpus
from curate.device import pick_device
from curate.encoders import torchvision_cpu
from tests.support.batching import CHANNELS, TEXT_DIM, Batch, bucketed, packed, padded, plain_forward
from tests.support.latents import smooth_clips, write_dataset
from tests.support.timing import median_seconds
from train.convert.wan import Wan
from train.distributed.parallelize import parallelize
from train.distributed.ranks import RankGrid
from train.estimate.peak_flops import peak_flops
from train.loop import train
from train.model.dit import DiT
from train.model.dit_config import DiTConfig
from train.model.mixers.attention_config import AttentionConfig, Backend, Pattern
from train.monitor.metrics import read_metrics
from train.objective.config import FlowConfig
from train.optim.optimizer import build_optimizer
from train.packing.batch import unpack
from train.run.config import OptimizerConfig, ParallelConfig, TrainConfig

Bounds = dict[str, tuple[float | None, float | None]]
"""Least and largest value of a figure."""

PROMISES: dict[str, Bounds] = {
    "cpu": {"packed over padded": (1.5, None)},
    "cuda": {
        "packed over padded": (1.8, None),
        "packed over bucketed": (1.2, None),
        "packing tax": (None, 0.03),
        "mfu": (0.45, None),
    },
}
ALWAYS: Bounds = {"loader wait": (None, 0.01), "checkpoint stall in steps": (None, 1.0)}
NUM_LOOP_STEPS = 60

Figures = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Device, sizes, and how often everything is repeated."""

    device: torch.device
    name: str
    model: DiTConfig
    budgets: tuple[int, ...]
    shrink: int  # of the corpus' sides
    num_samples: int
    uniform_grid: tuple[int, int, int]
    backends: tuple[Backend, ...]
    repeats: int
    compiles: bool

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.device.type == "cuda" else torch.float32

    def grids(self, budget: int) -> np.ndarray:
        """(N, 3): samples of the mixed corpus, patches along (t, h, w)."""
        return cut_to_budget(-(-mixed_corpus(self.num_samples) // self.shrink), budget)

    def build(self, config: DiTConfig, *, compiled: bool = False, checkpoint_every: int = 0) -> DiT:
        torch.manual_seed(0)
        model = DiT(config, channels=CHANNELS, text_dim=TEXT_DIM).to(self.device)
        for parameter in model.parameters():  # nothing is zero, so that nothing is known to be superfluous
            nn.init.normal_(parameter, std=0.02)
        ranks = RankGrid(rank=0, world_size=1, device=self.device)
        parallelize(
            model,
            ranks,
            ParallelConfig(compile=compiled, activation_checkpoint_every=checkpoint_every),
            self.dtype,
        )
        return model

    def loss(self, model: DiT, batch: Batch) -> torch.Tensor:
        objective = FlowConfig().build()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype is torch.bfloat16):
            losses = objective.token_losses(model, batch.packed)
        return objective.loss_sum(losses, batch.packed)

    def passes(self, model: DiT, batches: Iterable[Batch]) -> None:
        """Forward and backward over all of them."""
        for batch in batches:
            self.loss(model, batch).backward()
        model.zero_grad(set_to_none=True)

    def seconds(self, ways: Mapping[str, Callable[[], object]]) -> dict[str, float]:
        return median_seconds(ways, self.device, self.repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--model", choices=MODELS, help="default: dit-xl on CUDA, small on a CPU")
    parser.add_argument("--only", help="sections, with commas; default: all that the model has")
    parser.add_argument("--dataset", help="an encoded dataset, for the section `loop`")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--samples", type=int, help="of the mixed corpus")
    parser.add_argument("--compile", action="store_true", help="on CPU too")
    parser.add_argument("--out", type=Path, help="a JSON file")
    arguments = parser.parse_args()
    device = pick_device(arguments.device)
    name = arguments.model or ("dit-xl" if device.type == "cuda" else "small")
    bench = bench_of(device, name, arguments.repeats, arguments.samples, arguments.compile)
    if bench.device.type == "cpu":
        torch.set_num_threads(1)
    print(described())
    print(f"{name}, {device.type}")
    figures: Figures = {"machine": described(), "model": name, "commit": commit(), "torch": torch.__version__}
    figures["device"] = torch.cuda.get_device_name() if bench.device.type == "cuda" else "cpu"
    other = "uniform" if name.startswith("wan") else "diffusers"  # what the model does not have
    for section in arguments.only.split(",") if arguments.only else [one for one in SECTIONS if one != other]:
        print(f"\n{section}", flush=True)
        figures[section] = SECTIONS[section](bench, arguments.dataset)
        if arguments.out:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            arguments.out.write_text(json.dumps(figures, indent=2) + "\n")
    raise SystemExit(0 if verdict(figures, bench.device.type) else 1)


def wan(**settings: Any) -> dict[str, Any]:
    """Arguments of diffusers' `WanTransformer3DModel`: those of 2.1's 1.3B, and others."""
    return {
        "patch_size": [1, 2, 2],
        "num_attention_heads": 12,
        "attention_head_dim": 128,
        "in_channels": CHANNELS,
        "out_channels": CHANNELS,
        "text_dim": TEXT_DIM,
        "freq_dim": 256,
        "ffn_dim": 8960,
        "num_layers": 30,
    } | settings


WANS = {
    "wan-1.3b": wan(),
    "wan-small": wan(num_attention_heads=3, attention_head_dim=64, ffn_dim=896, num_layers=4),
}
MODELS = {
    "dit-xl": DiTConfig(width=1152, depth=28, num_heads=16),
    "small": DiTConfig(width=192, depth=4, num_heads=4),
    **{name: Wan().shape(settings).config for name, settings in WANS.items()},
}


def bench_of(device: torch.device, name: str, repeats: int, num_samples: int | None, compiles: bool) -> Bench:
    """Long packs on CUDA, short ones on a CPU."""
    if device.type == "cuda":
        return Bench(
            device=device,
            name=name,
            model=MODELS[name],
            budgets=(16_384, 32_768),
            shrink=1,
            num_samples=num_samples or 256,
            uniform_grid=(8, 16, 16),
            backends=("varlen", "flex"),
            repeats=repeats,
            compiles=True,
        )
    return Bench(
        device=device,
        name=name,
        model=MODELS[name],
        budgets=(2048,),
        shrink=4,
        num_samples=num_samples or 96,
        uniform_grid=(4, 8, 8),
        backends=("segments", "dense"),
        repeats=repeats,
        compiles=compiles,
    )


def batching(bench: Bench, _: str | None) -> Figures:
    """Real tokens per second of each way to batch."""
    figures: Figures = {}
    for budget in bench.budgets:
        grids = bench.grids(budget)
        model = bench.build(bench.model, checkpoint_every=1 if budget > bench.budgets[0] else 0)
        ways = {"packed": packed, "padded": padded, "bucketed": bucketed}
        ways["padded, attention unpadded"] = partial(padded, unpads_attention=True)
        batches = {name: list(way(grids, budget, bench.model, bench.device)) for name, way in ways.items()}
        seconds = bench.seconds({name: partial(bench.passes, model, batches[name]) for name in ways})
        real = int(grids.prod(1).sum())
        found: Figures = {}
        for name in ways:
            computed = sum(batch.packed.segments.num_tokens for batch in batches[name])
            assert sum(batch.real_tokens for batch in batches[name]) == real
            found[name] = {"real_tokens_per_s": real / seconds[name], "token_efficiency": real / computed}
            found[name]["batches"] = len(batches[name])
            print(
                f"  {budget:,} tokens, {name:27} {real / seconds[name]:10,.0f} real tokens/s, "
                f"{real / computed:6.1%} of the computed ones real, {len(batches[name])} batches"
            )
        for name in (name for name in ways if name != "packed"):
            found[f"packed over {name}"] = ratio = seconds[name] / seconds["packed"]
            print(f"  packed over {name}: {ratio:.2f}x")
        figures[str(budget)] = found
    return figures


def uniform(bench: Bench, _: str | None) -> Figures:
    """What segments cost where there is nothing to pack: one shape."""
    budget, tokens = bench.budgets[0], int(np.prod(bench.uniform_grid))
    grids = np.tile(bench.uniform_grid, (budget // tokens, 1))
    (batch,) = packed(grids, budget, bench.model, bench.device)
    model = bench.build(bench.model)
    t = batch.packed.condition_timesteps[batch.packed.condition_ids][:, None]
    x_t, target = (1 - t) * batch.packed.tokens + t * batch.packed.noise, batch.packed.noise - batch.packed.tokens

    def plainly() -> torch.Tensor:
        with torch.autocast(bench.device.type, torch.bfloat16, enabled=bench.dtype is torch.bfloat16):
            return plain_forward(model, x_t.unflatten(0, (len(grids), -1)), batch.packed).flatten(0, 1)

    def without_segments() -> None:
        (plainly().float() - target).square().mean().backward()
        model.zero_grad(set_to_none=True)

    with torch.no_grad(), torch.autocast(bench.device.type, torch.bfloat16, enabled=bench.dtype is torch.bfloat16):
        expected = model(x_t, batch.packed.timesteps, batch.packed)
    tolerance = 1e-4 if bench.dtype is torch.float32 else 5e-2
    torch.testing.assert_close(plainly().float(), expected.float(), atol=tolerance, rtol=tolerance)
    assert len(unpack(expected, batch.packed, (1, 2, 2))) == len(grids)
    seconds = bench.seconds({"packed": partial(bench.passes, model, [batch]), "plain": without_segments})
    tax = seconds["packed"] / seconds["plain"] - 1
    print(
        f"  {len(grids)} samples of {tokens} tokens: packed {seconds['packed']:.3f} s, plain {seconds['plain']:.3f} s"
    )
    print(f"  packing tax: {tax:.1%}")
    return {**{f"{name}_s": value for name, value in seconds.items()}, "packing tax": tax}


def diffusers(bench: Bench, _: str | None) -> Figures:
    """Forward and backward of one shape by our model, packed, and by diffusers' own, in a batch."""
    torchvision_cpu.repair()
    from diffusers import WanTransformer3DModel

    tokens = int(np.prod(bench.uniform_grid))
    grids = np.tile(bench.uniform_grid, (max(1, bench.budgets[0] // tokens), 1))
    (batch,) = packed(grids, bench.budgets[0], bench.model, bench.device)
    ours, theirs = bench.build(bench.model), WanTransformer3DModel(**WANS[bench.name]).to(bench.device)
    sides = [side * size for side, size in zip(bench.uniform_grid, bench.model.patch, strict=True)]
    latents = torch.randn(len(grids), CHANNELS, *sides, device=bench.device)
    timesteps = torch.full((len(grids),), 500.0, device=bench.device)
    text = torch.randn(len(grids), bench.model.text_padding, TEXT_DIM, device=bench.device)

    def by_diffusers() -> None:
        with torch.autocast(bench.device.type, torch.bfloat16, enabled=bench.dtype is torch.bfloat16):
            out = theirs(latents, timesteps, text, return_dict=False)[0]
        (out.float() - latents).square().mean().backward()
        theirs.zero_grad(set_to_none=True)

    ways: dict[str, Callable[[], object]] = {"packed": partial(bench.passes, ours, [batch]), "diffusers": by_diffusers}
    seconds = bench.seconds(ways)
    ratio = seconds["diffusers"] / seconds["packed"]
    print(f"  {len(grids)} samples of {tokens} tokens: " + ", ".join(f"{n} {s:.3f} s" for n, s in seconds.items()))
    print(f"  packed over diffusers: {ratio:.2f}x")
    return {**{f"{name}_s": value for name, value in seconds.items()}, "packed over diffusers": ratio}


def kernels(bench: Bench, _: str | None) -> Figures:
    """A pack of the mixed corpus through every pattern, by every kernel, compiled and not."""
    budget = bench.budgets[0]
    grids = bench.grids(budget)
    ways: dict[str, Callable[[], object]] = {}
    memory, tokens = {}, {}
    patterns: tuple[Pattern, ...] = get_args(Pattern)
    for pattern in patterns:
        for backend in bench.backends:
            for compiled in (False, True) if bench.compiles else (False,):
                mixer = AttentionConfig(pattern=pattern, kernel=backend)
                config = bench.model.model_copy(update={"mixer": mixer, "depth": 4})
                name = f"{pattern}, {backend}{', compiled' if compiled else ''}"
                model = bench.build(config, compiled=compiled)
                batches = [next(packed(grids, budget, config, bench.device))]
                ways[name] = partial(bench.passes, model, batches)
                tokens[name] = batches[0].real_tokens
                if bench.device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats()
                    before = torch.cuda.memory_allocated()
                    ways[name]()
                    memory[name] = (torch.cuda.max_memory_allocated() - before) / 2**30
    seconds = bench.seconds(ways)
    figures: Figures = {}
    for name in ways:
        figures[name] = {"tokens_per_s": tokens[name] / seconds[name], "memory_gib": memory.get(name)}
        beside = f", {memory[name]:.2f} GiB" if name in memory else ""
        print(f"  {name:45} {tokens[name] / seconds[name]:12,.0f} tokens/s{beside}")
    return figures


def mfu(bench: Bench, _: str | None) -> Figures:
    """Whole optimizer steps on packs; CUDA only."""
    if bench.device.type != "cuda":
        print("  needs a GPU")
        return {}
    figures: Figures = {}
    peak = peak_flops(bench.device, bench.dtype)
    for budget in bench.budgets:
        for compiled in (False, True):
            for checkpoint_every in (0, 2, 1):
                name = f"{budget} tokens, checkpoint_every {checkpoint_every}{', compiled' if compiled else ''}"
                try:
                    figures[name] = _whole_steps(bench, budget, compiled, checkpoint_every, peak)
                except torch.OutOfMemoryError:
                    figures[name] = {"out of memory": True}
                torch.cuda.empty_cache()
                print(f"  {name}: {figures[name]}", flush=True)
    return figures


def _whole_steps(bench: Bench, budget: int, compiled: bool, checkpoint_every: int, peak: float | None) -> Figures:
    model = bench.build(bench.model, compiled=compiled, checkpoint_every=checkpoint_every)
    optimizer = build_optimizer(model, OptimizerConfig())
    (first, *more) = packed(bench.grids(budget), budget, bench.model, bench.device)
    batches = [first, *more][:8]
    torch.cuda.reset_peak_memory_stats()

    def step(batch: Batch) -> None:
        bench.loss(model, batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def steps() -> None:
        for batch in batches:
            step(batch)

    seconds = bench.seconds({"steps": steps})["steps"]
    flops = 3 * sum(model.flops(batch.packed) for batch in batches)
    return {
        "tokens_per_s": sum(batch.real_tokens for batch in batches) / seconds,
        "mfu": flops / seconds / peak if peak else None,
        "tflops": flops / seconds / 1e12,
        "memory_gib": torch.cuda.max_memory_allocated() / 2**30,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def loop(bench: Bench, dataset: str | None) -> Figures:
    """What a real run loses to its loader and to checkpoints."""
    with tempfile.TemporaryDirectory(prefix="train_step-") as folder:
        if dataset is None:
            dataset = str(write_dataset(Path(folder) / "dataset", smooth_clips(400)))
        plan = {"token_budget": bench.budgets[0]}
        settings = {
            "steps": NUM_LOOP_STEPS,
            "model": bench.model.model_dump(),
            "data": {"plan": plan},
            "checkpoint": {"every": 10},
            "evaluate": {"held_out": {"every": NUM_LOOP_STEPS, "first": 0}, "captions": {"every": 0}},
        }
        train(TrainConfig.model_validate(settings), dataset, Path(folder) / "run")
        rows = [row for row in read_metrics(Path(folder) / "run/metrics.jsonl") if "loss" in row]
    rows = rows[2:]  # the first steps fill caches and the prefetch
    usual = median(row["seconds"] for row in rows)
    waits = sum(row["loader_wait_s"] for row in rows) / sum(row["seconds"] for row in rows)
    stalls = [row["checkpoint_stall_s"] for row in rows if row["checkpoint_stall_s"] > 0.01 * usual]
    figures = {
        "step_s": usual,
        "loader wait": waits,
        "checkpoint stall in steps": max(stalls, default=0.0) / usual,
        "checkpoint stall in steps, median": median(stalls or [0.0]) / usual,
        "dataset": dataset,
    }
    print(f"  {NUM_LOOP_STEPS} steps of {usual:.3f} s (median), a checkpoint every 10")
    print(f"  loader wait {waits:.2%}, longest stall by a checkpoint {figures['checkpoint stall in steps']:.2f} steps")
    return figures


SECTIONS: dict[str, Callable[[Bench, str | None], Figures]] = {
    "batching": batching,
    "uniform": uniform,
    "diffusers": diffusers,
    "kernels": kernels,
    "mfu": mfu,
    "loop": loop,
}


def verdict(figures: Figures, device: str) -> bool:
    """Prints each promise with the worst figure it is about; of `mfu`, whose settings are alternatives, the best."""
    kept = True
    print()
    for name, (least, most) in (PROMISES[device] | ALWAYS).items():
        found = list(_named(figures, name))
        if not found:
            continue
        value = max(found) if name == "mfu" or most is not None else min(found)
        good = (least is None or value >= least) and (most is None or value <= most)
        kept = kept and good
        bound = f"at least {least}" if most is None else f"at most {most}"
        print(f"{name}: {value:.3f}, promised {bound}: {'met' if good else 'MISSED'}")
    return kept


def _named(figures: Any, name: str) -> Iterable[float]:
    """All numbers of that name, at any depth."""
    if isinstance(figures, dict):
        for key, value in figures.items():
            if key == name and isinstance(value, float):
                yield value
            else:
                yield from _named(value, name)


if __name__ == "__main__":
    main()
