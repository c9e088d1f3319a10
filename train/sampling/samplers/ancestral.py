"""Ancestral sampling (Ho et al. 2020, algorithm 2)."""

from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from torch import Tensor

    from train.objective.base import Quantity
    from train.sampling.samplers.base import ReverseProcess


class AncestralSampler(BaseModel):
    """Stochastic: each step draws from the posterior, on fewer timesteps as in Nichol & Dhariwal 2021, §4. Its
    variance is the learned one where the objective gives it, otherwise the posterior's. The last step is its mean."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    needs: "ClassVar[frozenset[Quantity]]" = frozenset({"x_0"})
    inverts: ClassVar[bool] = False
    kind: Literal["ancestral"] = "ancestral"

    def sample(self, x: "Tensor", process: "ReverseProcess") -> "Tensor":
        from train.objective.posterior import posterior

        for level, after in pairwise(process.levels):
            found = process.estimate(x, level)
            q = posterior(level.alpha, level.sigma, after.alpha, after.sigma)  # (S,) each
            x = process.spread(q.from_x0) * found.x_0 + process.spread(q.from_xt) * x
            if after is not process.levels[-1]:
                beta, log_variance = process.spread(q.beta.log()), process.spread(q.variance.log())  # (L, 1)
                fraction = 0.0 if found.variance is None else (found.variance + 1) / 2
                x = x + (0.5 * (fraction * beta + (1 - fraction) * log_variance)).exp() * process.draw_noise()
        return x
