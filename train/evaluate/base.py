"""Evaluators: what a run measures of its model while it trains.

The loop calls every evaluator that is due, on all ranks together, and logs what it returns without knowing it.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Protocol

import numpy as np
from torch import nn

from train.data.manifest import Manifest
from train.data.plan import PlanConfig
from train.distributed.ranks import RankGrid
from train.evaluate.config import EvaluateConfig
from train.model.config import ModelConfig
from train.objective.base import Objective


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What an evaluator found.

    Attributes:
        metrics: Numbers, or nested mappings of numbers, by their names in `metrics.jsonl`. The numbers are also in
            the summary, the console table and the report.
        images: (H, W, 3) uint8 by name, for TensorBoard; of the first rank.
    """

    metrics: Mapping[str, Any] = field(default_factory=dict)
    images: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationContext:
    """What the evaluators of a run have."""

    train: Manifest
    val: Manifest
    objective: Objective
    plan: PlanConfig
    model: ModelConfig
    ranks: RankGrid
    run: str = ""  # name of the run
    out: Path  # folder of this machine; what is in it comes to the run


class AveragedWeights(Protocol):
    """The EMA of a run."""

    def applied_to(self, model: nn.Module) -> AbstractContextManager[None]:
        """`model` has the averaged weights inside."""
        ...


class Evaluator(Protocol):
    """One measurement. It is built from its settings and the context before the first step.

    Raises:
        ValueError: from its constructor, if it cannot be run here: the run ends before the first step.
    """

    def evaluate(self, model: nn.Module, average: AveragedWeights, step: int) -> Evaluation:
        """Measure on all ranks together, under the run's autocast; the same result on every rank."""
        ...


def build_evaluators(config: EvaluateConfig, context: EvaluationContext) -> dict[str, Evaluator]:
    """The evaluators that are switched on, by the name of their section."""
    settings = {name: getattr(config, name) for name in type(config).model_fields}
    return {name: resolve_name(one.evaluator)(one, context) for name, one in settings.items() if one.every}
