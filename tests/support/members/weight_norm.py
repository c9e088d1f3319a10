"""An evaluator that the project does not have: the norm of the weights, of the model and of its average."""

from typing import TYPE_CHECKING, Any, ClassVar

from train.evaluate.settings import EvaluatorSettings

if TYPE_CHECKING:
    from torch import nn

    from train.evaluate.base import AveragedWeights, Evaluation, EvaluationContext


class WeightNormConfig(EvaluatorSettings):
    """Settings and class in one file: the class loads torch when it is used."""

    evaluator: ClassVar[str] = "tests.support.members.weight_norm:WeightNorm"

    every: int = 2


class WeightNorm:
    def __init__(self, config: WeightNormConfig, context: "EvaluationContext") -> None:
        self.num_clips = len(context.val)

    def evaluate(self, model: "nn.Module", average: "AveragedWeights", step: int) -> "Evaluation":
        import numpy as np

        from train.evaluate.base import Evaluation

        def norm() -> float:
            return sum(float(p.detach().square().sum()) for p in model.parameters()) ** 0.5

        metrics: dict[str, Any] = {"weight_norm": norm(), "weight_norm_clips": self.num_clips}
        with average.applied_to(model):
            metrics["weight_norm_ema"] = norm()
        by_step = {"all": {"weights": {str(step): metrics["weight_norm"]}}}
        image = np.zeros((8, 8, 3), np.uint8)
        return Evaluation(metrics=metrics | {"weight_norm_by_step": by_step}, images={"weight_norm": image})
