"""Euler's method on the straight path."""

from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from torch import Tensor

    from train.objective.base import NoiseLevel, Quantity
    from train.sampling.samplers.base import ReverseProcess


class EulerSampler(BaseModel):
    """Order 1, deterministic. Integrates dx/dt = ε - x_0 in t = sigma / (alpha + sigma): of a flow the timestep
    itself, of a DDPM the path that its own becomes when x_t is divided by alpha + sigma. Equals DDIM at eta 0."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    needs: "ClassVar[frozenset[Quantity]]" = frozenset({"velocity"})
    inverts: ClassVar[bool] = True
    kind: Literal["euler"] = "euler"

    def sample(self, x: "Tensor", process: "ReverseProcess") -> "Tensor":
        for level, after in pairwise(process.levels):
            x = straight_step(x, process.estimate(x, level).velocity, level, after, process)
        return x


def straight_step(
    x: "Tensor", velocity: "Tensor", level: "NoiseLevel", after: "NoiseLevel", process: "ReverseProcess"
) -> "Tensor":
    """x (L, P) moved from one level to another along a velocity (L, P) of the straight path."""
    step = after.scale * (after.time - level.time)  # (S,)
    return process.spread(after.scale / level.scale) * x + process.spread(step) * velocity
