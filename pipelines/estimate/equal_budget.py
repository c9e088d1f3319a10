"""Trainings of equal budgets: steps that hold as many clips, and as many of them as take what another run takes."""

import json
import math
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any, Literal, TypeAlias

from pydantic import ValidationError

from curate.storage.place import path_of
from curate.storage.publish import write_text
from pipelines.console.progress import console
from pipelines.estimate.plan_train import first_steps
from pipelines.execute.own_process import in_own_process
from train.run.config import TrainConfig

Budget: TypeAlias = Literal["steps", "flops", "time"]
NUM_PROBED = 6
"""Steps that say what a step costs."""
COST = "cost.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Of a step."""

    tflop: float
    seconds: float


def of_equal_packs(config: TrainConfig, first: TrainConfig) -> TrainConfig:
    """Packs of as many tokens of a smaller patch would hold fewer clips. A budget that is another already stays."""
    plan = config.data.plan
    if config.model.patch == first.model.patch or plan.token_budget != first.data.plan.token_budget:
        return config
    ratio = math.prod(first.model.patch) / math.prod(config.model.patch)
    plan = plan.model_copy(update={"token_budget": max(1, round(plan.token_budget * ratio))})
    return config.model_copy(update={"data": config.data.model_copy(update={"plan": plan})})


def of_equal_budget(
    config: TrainConfig, cost: Cost, first: TrainConfig, of_first: Cost, budget: Budget
) -> TrainConfig:
    """Steps that take as much as the first variant's, with as many evaluations."""
    share = {"steps": 1.0, "flops": of_first.tflop / cost.tflop, "time": of_first.seconds / cost.seconds}[budget]
    steps = max(1, round(first.steps * share))
    held_out = config.evaluate.held_out.model_copy(
        update={"every": math.ceil(first.evaluate.held_out.every * steps / first.steps)}
    )
    evaluate = config.evaluate.model_copy(update={"held_out": held_out})
    return config.model_copy(update={"steps": steps, "evaluate": evaluate})


def cost_of(dataset: str, folder: str, name: str, config: TrainConfig) -> Cost:
    """Measured once: a budget of seconds is the same when the command runs again."""
    known = path_of(folder) / COST
    if known.exists() and _are(config, (saved := json.loads(known.read_text()))["settings"]):
        return Cost(tflop=saved["tflop"], seconds=saved["seconds"])
    console.print(f"{name}: {NUM_PROBED} steps to learn what they cost", highlight=False, markup=False)
    try:
        rows, _ = in_own_process(first_steps, dataset, config, NUM_PROBED)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    cost = Cost(tflop=fmean(row["tflop"] for row in rows), seconds=median(row["seconds"] for row in rows))
    write_text(str(known), json.dumps({"settings": config.model_dump(mode="json"), **asdict(cost)}, indent=1))
    return cost


def _are(config: TrainConfig, saved: Any) -> bool:
    """Whether saved settings are these; what an earlier reelpack did not save has its default."""
    try:
        return TrainConfig.model_validate(saved) == config
    except ValidationError:
        return False
