"""The families of guidance rules and of their combinations: one line each."""

from collections.abc import Sequence
from itertools import product
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, Field

from train.sampling.guidance.apg import ProjectedCombination
from train.sampling.guidance.autoguidance import AutoGuidance
from train.sampling.guidance.constant import ConstantGuidance
from train.sampling.guidance.interval import IntervalGuidance
from train.sampling.guidance.linear import LinearCombination

AnyRule: TypeAlias = (
    ConstantGuidance  #
    | IntervalGuidance
    | AutoGuidance
)
RuleConfig = Annotated[AnyRule, Field(discriminator="kind")]

AnyCombination: TypeAlias = (
    LinearCombination  #
    | ProjectedCombination
)
CombinationConfig = Annotated[AnyCombination, Field(discriminator="kind")]


def _of_weight(value: Any) -> Any:
    """A number stands for one constant rule, one rule for a list of it."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return [{"kind": "constant", "weight": value}]
    return [value] if isinstance(value, dict) else value


Guidance = Annotated[tuple[RuleConfig, ...], BeforeValidator(_of_weight)]


def coefficients(weights: Sequence[float]) -> list[float]:
    """Weights of the rules to the factors of the predictions, whose sum is 1: of the whole sample's, then of each
    rule's branch. y + Σ (w_b - 1) (y - y_b) = (1 + Σ (w_b - 1)) y + Σ (1 - w_b) y_b."""
    return [1 + sum(weight - 1 for weight in weights), *(1 - weight for weight in weights)]


def num_branches(rules: Sequence[AnyRule]) -> int:
    """Predictions of one sample, at most, in a step: those with a factor of 0 are not made."""
    return max(
        sum(factor != 0 for factor in coefficients(weights)) for weights in product(*(rule.weights for rule in rules))
    )
