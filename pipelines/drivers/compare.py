"""Models on one dataset, compared fairly. The driver behind `reelpack compare`.

Every variant is trained with the same data and seeds, in runs of their own below OUT/NAME/seed-N, which resume. The
budget is chosen: equal steps, floating-point operations of matrix products, or seconds. On demand the number of
parameters is made equal by the model's width. Every run is a process of its own, and so is its peak of memory.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median, stdev
from typing import Any

from curate.report.comparison import build_comparison
from curate.storage.place import path_of
from curate.storage.publish import write_text
from pipelines.config import Config
from pipelines.console.progress import console
from pipelines.drivers.train import train_here
from pipelines.estimate.equal_budget import Budget, Cost, cost_of, of_equal_budget, of_equal_packs
from pipelines.estimate.equal_width import Sizes, of_equal_width
from pipelines.execute.own_process import in_own_process
from train.data.mix import read_datasets
from train.monitor.metrics import read_metrics
from train.run.config import TrainConfig
from train.run.folder import read_run

LOSS = "val_loss_ema"
COMPARISON = "compare.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One training of a variant.

    Attributes:
        loss: The last held-out loss, of the averaged weights.
        curve: Of each evaluation: steps, TFLOP until then, held-out loss.
        tokens_per_s: Median over the steps, in tokens of the first variant's patch.
        seconds: Of all steps.
        memory_gib: Peak of the device; on CPU of the process.
    """

    seed: int
    folder: str
    loss: float
    curve: tuple[tuple[int, float, float], ...]
    tokens_per_s: float
    seconds: float
    memory_gib: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """A variant.

    Attributes:
        steps: Of each run.
        tflop: Of each run, mean: matrix products, forward and backward.
        runs: One for each seed.
    """

    name: str
    model: dict[str, Any]
    num_parameters: int
    steps: int
    tflop: float
    runs: tuple[Run, ...]

    @property
    def loss(self) -> float:
        """Mean over the seeds."""
        return fmean(run.loss for run in self.runs)

    @property
    def spread(self) -> float | None:
        """Standard deviation over the seeds; None of one seed."""
        return stdev(run.loss for run in self.runs) if len(self.runs) > 1 else None


def compare(
    dataset: str,
    out: str,
    variants: Mapping[str, Config],
    *,
    budget: Budget,
    match_parameters: bool,
    seeds: Sequence[int],
) -> tuple[list[Compared], str]:
    """Train every variant with every seed; the variants, best first, and the page, which is written after each seed.

    Args:
        dataset: with latents and held-out clips.
        out: folder of the runs, of `compare.json` and of `index.html`.
        variants: settings by name. The first one sets the budget, and the number of parameters.
        budget: what all runs have as much of.
        match_parameters: change widths until parameters are about equal.
        seeds: of weights, data order and noise.

    Raises:
        ValueError: what `train` raises; no width gives the number of parameters; held-out losses are off, or would not
            compare; OUT has a run of other settings.
    """
    settings = {name: config.train for name, config in variants.items()}
    name, first = next(iter(settings.items()))
    for other, one in settings.items():
        _check_comparable(other, one, name, first)
    train, held_out = (read_datasets(dataset, split=s, data=first.data, model=first.model) for s in ("train", "val"))
    if not len(held_out):
        raise ValueError(f"{dataset} has no held-out clips, whose losses are compared; set select.split for curate")
    sizes = Sizes(channels=train.channels, text_dim=train.text_dim)
    if match_parameters:
        target = sizes.num_parameters(first)
        settings |= {other: of_equal_width(sizes, other, one, target) for other, one in settings.items()}
    settings = {other: of_equal_packs(one, first) for other, one in settings.items()}
    costs = {other: cost_of(dataset, f"{out}/{other}", other, one) for other, one in settings.items()}
    settings = {
        other: of_equal_budget(one, costs[other], first, costs[name], budget) for other, one in settings.items()
    }
    for other, one in settings.items():
        for seed in seeds:
            _check_same(_folder(out, other, seed), one.model_copy(update={"seed": seed}))
    _say_plan(settings, {other: sizes.num_parameters(one) for other, one in settings.items()}, costs, seeds)
    runs: dict[str, tuple[Run, ...]] = dict.fromkeys(settings, ())
    for number, seed in enumerate(seeds, 1):
        for turn, (other, one) in enumerate(settings.items(), 1 + (number - 1) * len(settings)):
            place = f"run {turn} of {len(seeds) * len(settings)}: {other}, seed {seed}"
            console.print(place, highlight=False, markup=False)
            config = variants[other].model_copy(update={"train": one.model_copy(update={"seed": seed})})
            runs[other] += (_trained(dataset, out, other, config, math.prod(first.model.patch)),)
        found = [_compared(sizes, other, settings[other], runs[other]) for other in settings]
        found.sort(key=lambda one: one.loss)
        facts = {"dataset": dataset, "budget": budget, "match_parameters": match_parameters}
        _publish(out, facts | {"seeds": list(seeds[:number])}, found)
    return found, build_comparison(out)


def _check_comparable(name: str, config: TrainConfig, first_name: str, first: TrainConfig) -> None:
    """See that a variant's held-out loss can stand beside the first one's.

    Raises:
        ValueError: it is off, or is another quantity.
    """
    if not config.evaluate.held_out.every:
        raise ValueError(f"{name}: train.evaluate.held_out.every is 0; what is compared is the held-out loss")
    for section, own, others in (
        ("objective", config.objective, first.objective),
        ("data", config.data, first.data),
        ("evaluate.held_out", config.evaluate.held_out, first.evaluate.held_out),
    ):
        mine, its = own.model_dump(), others.model_dump()
        free = {"every", "first", "plan", "prefetch_steps"}
        if differing := [key for key in {*mine, *its} - free if mine.get(key) != its.get(key)]:
            told = ", ".join(f"train.{section}.{key}" for key in sorted(differing))
            raise ValueError(
                f"{name}: got another {told} than {first_name}; held-out losses compare where objective, data and "
                "timesteps are the same"
            )


def _folder(out: str, name: str, seed: int) -> str:
    return f"{out}/{name}/seed-{seed}"


def _check_same(folder: str, config: TrainConfig) -> None:
    """See that a run that is there is this one.

    Raises:
        ValueError: it has other settings, such as another number of steps.
    """
    if not (path_of(folder) / "config.yaml").exists():
        return
    saved, now = read_run(path_of(folder))[0].model_dump(), config.model_dump()
    if differing := [f"train.{key}" for key in now if key != "log" and now[key] != saved[key]]:
        raise ValueError(
            f"{folder} holds a run with another {', '.join(differing)}; choose another --out, or the settings and the "
            "budget that it was begun with"
        )


def _say_plan(
    settings: Mapping[str, TrainConfig],
    counts: Mapping[str, int],
    costs: Mapping[str, Cost],
    seeds: Sequence[int],
) -> None:
    for name, one in settings.items():
        told = f"{name}: {counts[name]:,} parameters, {one.steps:,} steps of {costs[name].seconds:.2g} s"
        console.print(told, highlight=False, markup=False)
    seconds = len(seeds) * sum(one.steps * costs[name].seconds for name, one in settings.items())
    told = f"{len(seeds) * len(settings)} runs, about {seconds / 60:.0f} min without evaluations"
    console.print(told, highlight=False, markup=False)


def _trained(dataset: str, out: str, name: str, config: Config, patch_of_first: int) -> Run:
    seed, folder = config.train.seed, _folder(out, name, config.train.seed)
    run = path_of(folder)
    done = run / "summary.json"
    if not (done.exists() and json.loads(done.read_text())["steps"] == config.train.steps):
        try:
            in_own_process(train_here, dataset, folder, config)
        except ValueError as error:
            raise ValueError(f"{name}, seed {seed}: {error}") from error
    curve, tflop, rows = list[tuple[int, float, float]](), 0.0, read_metrics(run / "metrics.jsonl")
    for row in rows:
        tflop += row.get("tflop", 0.0)
        if LOSS in row:
            if row[LOSS] is None:
                raise ValueError(f"{folder}: the held-out loss after step {row['step']} is no number; lower its rate")
            curve.append((int(row["step"]), tflop, float(row[LOSS])))
    steps = [row for row in rows if "loss" in row]
    unit = math.prod(config.train.model.patch) / patch_of_first
    return Run(
        seed=seed,
        folder=folder,
        loss=curve[-1][2],
        curve=tuple(curve),
        tokens_per_s=median(row["tokens"] * unit / row["seconds"] for row in steps),
        seconds=sum(row["seconds"] for row in steps),
        memory_gib=max(row["memory_gib"] for row in steps),
    )


def _compared(sizes: Sizes, name: str, config: TrainConfig, runs: tuple[Run, ...]) -> Compared:
    return Compared(
        name=name,
        model=config.model.model_dump(mode="json"),
        num_parameters=sizes.num_parameters(config),
        steps=config.steps,
        tflop=fmean(run.curve[-1][1] for run in runs),
        runs=runs,
    )


def _publish(out: str, facts: Mapping[str, Any], found: Sequence[Compared]) -> None:
    variants = [asdict(one) for one in found]
    write_text(f"{out}/{COMPARISON}", json.dumps({**facts, "variants": variants}, indent=1))
    build_comparison(out)
