"""Heun's method on the straight path."""

from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from train.sampling.samplers.euler import straight_step

if TYPE_CHECKING:
    from torch import Tensor

    from train.objective.base import Quantity
    from train.sampling.samplers.base import ReverseProcess


class HeunSampler(BaseModel):
    """Order 2, deterministic: the mean of the velocities at both ends of a step, see `EulerSampler`. The model is
    evaluated twice a step, once in the last, which is Euler's (Karras et al. 2022, algorithm 1): a model that is
    trained on noisy data has no answer for clean ones."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    needs: "ClassVar[frozenset[Quantity]]" = frozenset({"velocity"})
    inverts: ClassVar[bool] = True
    kind: Literal["heun"] = "heun"

    def sample(self, x: "Tensor", process: "ReverseProcess") -> "Tensor":
        for level, after in pairwise(process.levels[:-1]):
            velocity = process.estimate(x, level).velocity
            there = straight_step(x, velocity, level, after, process)
            mean = (velocity + process.estimate(there, after).velocity) / 2
            x = straight_step(x, mean, level, after, process)
        level, data = process.levels[-2:]
        return straight_step(x, process.estimate(x, level).velocity, level, data, process)
