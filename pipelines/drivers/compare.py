"""Models on one dataset, compared fairly. The driver behind `reelpack compare`.

Every variant is trained with the same data and seeds, in runs of their own below OUT/NAME/seed-N, which resume. The
budget is chosen: equal steps, floating-point operations of matrix products, or seconds. On demand the number of
parameters is made equal by the model's width.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median, stdev
from typing import Any, Literal, TypeAlias

import torch
from pydantic import ValidationError

from curate.report.comparison import build_comparison
from curate.storage.place import path_of
from curate.storage.publish import write_text
from pipelines.config import Config
from pipelines.console.progress import console
from pipelines.drivers.train import train_here
from pipelines.estimate.plan_train import first_steps
from train.data.mix import read_datasets
from train.monitor.metrics import read_metrics
from train.run.config import TrainConfig

Budget: TypeAlias = Literal["steps", "flops", "time"]
NUM_PROBED = 6
"""Steps that say what a step costs."""
CLOSE_ENOUGH = 0.05
"""Share by which numbers of parameters may differ where they are to be equal."""
MOST_WIDTHS = 6
"""Times that a width is guessed."""
LOSS = "val_loss_ema"
COMPARISON = "compare.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One training of a variant.

    Attributes:
        loss: The last held-out loss, of the averaged weights.
        curve: Of each evaluation: steps, TFLOP until then, held-out loss.
    """

    seed: int
    folder: str
    loss: float
    curve: tuple[tuple[int, float, float], ...]
    tokens_per_s: float
    memory_gib: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """A variant.

    Attributes:
        steps: Of each run.
        tflop: Of each run, about: matrix products, forward and backward.
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
    """Train every variant with every seed; the variants, best first, and the page.

    Args:
        dataset: with latents.
        out: folder of the runs, of `compare.json` and of `index.html`.
        variants: settings by name. The first one sets the budget, and the number of parameters.
        budget: what all runs have as much of.
        match_parameters: change widths until parameters differ by at most `CLOSE_ENOUGH`.
        seeds: of weights, data order and noise.

    Raises:
        ValueError: what `train` raises; no width gives the number of parameters; held-out losses are off.
    """
    settings = {name: config.train for name, config in variants.items()}
    for name, one in settings.items():
        if not one.evaluate.held_out.every:
            raise ValueError(f"{name}: train.evaluate.held_out.every is 0; what is compared is the held-out loss")
    first = next(iter(settings.values()))
    manifest = read_datasets(dataset, split="train", data=first.data, model=first.model)
    sizes = Sizes(channels=manifest.channels, text_dim=manifest.text_dim)
    counts = {name: sizes.num_parameters(one) for name, one in settings.items()}
    if match_parameters:
        target = next(iter(counts.values()))
        for name in settings:
            settings[name], counts[name] = _matched(sizes, name, settings[name], target)
    costs = {name: _cost(dataset, name, one) for name, one in settings.items()}
    of_first = next(iter(costs.values()))
    found = []
    for name, one in settings.items():
        tflop, seconds = costs[name]
        share = {"steps": 1.0, "flops": of_first[0] / tflop, "time": of_first[1] / seconds}[budget]
        steps = max(1, round(first.steps * share))
        console.print(f"{name}: {counts[name]:,} parameters, {steps:,} steps", highlight=False, markup=False)
        runs = tuple(
            _trained(dataset, f"{out}/{name}/seed-{seed}", variants[name], one, steps, seed) for seed in seeds
        )
        found.append(
            Compared(
                name=name,
                model=one.model.model_dump(mode="json"),
                num_parameters=counts[name],
                steps=steps,
                tflop=tflop * steps,
                runs=runs,
            )
        )
    found.sort(key=lambda one: one.loss)
    facts = {"dataset": dataset, "budget": budget, "match_parameters": match_parameters, "seeds": list(seeds)}
    write_text(f"{out}/{COMPARISON}", json.dumps({**facts, "variants": [asdict(one) for one in found]}, indent=1))
    return found, build_comparison(out)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """Of the dataset: channels of its latents, features of its text states."""

    channels: int
    text_dim: int

    def num_parameters(self, config: TrainConfig) -> int:
        """Of the model as it would be trained; nothing is allocated."""
        sizes = {**asdict(self), "num_outputs": config.objective.num_outputs}
        with torch.device("meta"):
            model = config.model.build(**sizes)
        return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _matched(sizes: Sizes, name: str, config: TrainConfig, target: int) -> tuple[TrainConfig, int]:
    """The settings with the width that brings parameters nearest to `target`, and their number.

    Raises:
        ValueError: the nearest is not near enough.
    """
    best = config, sizes.num_parameters(config)
    unit = getattr(config.model, "num_heads", 1)
    width = config.model.width
    for _ in range(MOST_WIDTHS):
        guess = round(width * (target / best[1]) ** 0.5 / unit) * unit  # parameters grow as the square of the width
        tried = [_of_width(config, guess + step * unit) for step in (-2, -1, 0, 1, 2)]
        found = [(one, sizes.num_parameters(one)) for one in tried if one is not None]
        nearest = min([best, *found], key=lambda pair: abs(pair[1] - target))
        if nearest[1] == best[1]:
            break
        best, width = nearest, nearest[0].model.width
    if abs(best[1] - target) > CLOSE_ENOUGH * target:
        raise ValueError(
            f"{name}: got {best[1]:,} parameters at width {best[0].model.width}, expected about {target:,} "
            f"(train.model.width is a multiple of {unit}); change its depth, or leave --match-parameters out"
        )
    return best


def _of_width(config: TrainConfig, width: int) -> TrainConfig | None:
    """None: the model does not take it."""
    try:
        model = config.model.model_validate(config.model.model_dump() | {"width": width})
    except ValidationError:
        return None
    return config.model_copy(update={"model": model})


def _cost(dataset: str, name: str, config: TrainConfig) -> tuple[float, float]:
    """TFLOP and seconds of a step."""
    console.print(f"{name}: {NUM_PROBED} steps to learn what they cost", highlight=False, markup=False)
    rows, _ = first_steps(dataset, config, NUM_PROBED)
    return fmean(row["tflop"] for row in rows), median(row["seconds"] for row in rows)


def _trained(dataset: str, out: str, config: Config, settings: TrainConfig, steps: int, seed: int) -> Run:
    settings = settings.model_copy(update={"steps": steps, "seed": seed})
    summary = train_here(dataset, out, config.model_copy(update={"train": settings}))
    rows = read_metrics(path_of(out) / "metrics.jsonl")
    curve, tflop = [], 0.0
    for row in rows:
        tflop += row.get("tflop", 0.0)
        if LOSS in row:
            curve.append((int(row["step"]), tflop, float(row[LOSS])))
    return Run(
        seed=seed,
        folder=out,
        loss=curve[-1][2],
        curve=tuple(curve),
        tokens_per_s=summary.tokens_per_s,
        memory_gib=summary.memory_gib,
    )
