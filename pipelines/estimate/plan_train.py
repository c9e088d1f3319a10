"""Cost of a training, estimated by its own first steps.

The driver behind `reelpack plan DATASET --step train`. The training loop runs as it will, in a folder that is removed
afterwards; evaluation is left out. The spread of the steps is the error bar.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.config import Config
from pipelines.estimate.bootstrap import SEED, Estimate, drawn, estimated
from train.estimate.forecast import Forecast, forecast
from train.loop import train
from train.run.config import TrainConfig

NUM_WARM_UP_STEPS = 3
"""First steps that are not counted: they allocate, and compile where that is switched on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainPlan:
    """A run and its predicted cost.

    Attributes:
        forecast: Packs, steps, tokens and memory, from the indices.
        num_steps: Of the run.
        num_probed: Steps that were timed.
        num_ranks: Devices like this one that share a step.
        step_s: Seconds of a step on so many ranks.
        total_s: Of the run.
        checkpoint_bytes: Of the checkpoints that are kept.
        unknown: What the prediction does not hold, in sentences.
    """

    forecast: Forecast
    num_steps: int
    num_probed: int
    num_ranks: int
    step_s: Estimate
    total_s: Estimate
    checkpoint_bytes: int
    unknown: tuple[str, ...]


def plan(dataset: str | Sequence[str], config: Config, *, num_sampled: int = 10, num_ranks: int = 1) -> TrainPlan:
    """Predict a run of `train`.

    Args:
        dataset: one dataset directory, or several.
        config: as `train` will get it.
        num_sampled: steps that are timed.
        num_ranks: devices like this one; the packs of a step are dealt over them.

    Raises:
        ValueError: what `train` would raise.
    """
    settings = config.train
    packs = settings.data.plan.packs_per_step
    if packs % num_ranks:
        raise ValueError(
            f"{num_ranks} machines do not divide the {packs} packs of a step (train.data.plan.packs_per_step)"
        )
    told = forecast(settings, dataset, num_ranks)
    rows, checkpoint_bytes = first_steps(dataset, settings, num_sampled)
    seconds = np.array([row["seconds"] for row in rows])
    steps = estimated(seconds[drawn(np.random.default_rng(SEED), len(seconds))].mean(1) / num_ranks)
    return TrainPlan(
        forecast=told,
        num_steps=settings.steps,
        num_probed=len(seconds),
        num_ranks=num_ranks,
        step_s=steps,
        total_s=steps.times(settings.steps),
        checkpoint_bytes=checkpoint_bytes
        * min(settings.checkpoint.keep, -(-settings.steps // settings.checkpoint.every)),
        unknown=(
            "the time of evaluation, samples and checkpoints",
            *(("what ranks exchange",) if num_ranks > 1 else ()),
        ),
    )


def first_steps(
    dataset: str | Sequence[str], settings: TrainConfig, num_sampled: int
) -> tuple[list[dict[str, Any]], int]:
    """Metrics of `num_sampled` steps after the first ones, and the bytes of a checkpoint; the folder is removed."""
    never = {"every": 0}
    evaluate = settings.evaluate.model_copy(
        update={
            name: getattr(settings.evaluate, name).model_copy(
                update={**never, **({"first": 0} if name == "held_out" else {})}
            )
            for name in type(settings.evaluate).model_fields
        }
    )
    probe = settings.model_copy(
        update={
            "steps": NUM_WARM_UP_STEPS + num_sampled,
            "parallel": settings.parallel.model_copy(update={"context": 1}),
            "evaluate": evaluate,
            "log": settings.log.model_copy(update={"wandb": None}),
        }
    )
    rows: list[dict[str, Any]] = []

    def on_step(row: dict[str, Any]) -> None:
        if "seconds" in row and row["step"] > NUM_WARM_UP_STEPS:
            rows.append(row)

    with tempfile.TemporaryDirectory() as folder:
        train(probe, dataset, f"{folder}/run", on_step=on_step)
        files = [file for file in Path(folder, "run", "checkpoints").rglob("*") if file.is_file()]
        return rows, sum(file.stat().st_size for file in files)
