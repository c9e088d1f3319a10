"""DPM-Solver++(2M) (Lu et al. 2022, algorithm 2)."""

import math
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from torch import Tensor

    from train.objective.base import Quantity
    from train.sampling.samplers.base import ReverseProcess

MIN_LOG_SNR = -24 * math.log(2)
"""Lower bound of log-SNR in the length of a step: pure noise has -inf. SNR 2^-24, as in diffusers' scheduler."""


class DPMSolverSampler(BaseModel):
    """Order 2, deterministic, one evaluation of the model a step. First and last step have order 1: before the one
    there is no other estimate, and the other goes to log-SNR ∞."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    needs: "ClassVar[frozenset[Quantity]]" = frozenset({"x_0"})
    inverts: ClassVar[bool] = False
    kind: Literal["dpm-solver++"] = "dpm-solver++"

    def sample(self, x: "Tensor", process: "ReverseProcess") -> "Tensor":
        before = None  # of the step before: its estimate (L, P) and its length in log-SNR (S,)
        for level, after in pairwise(process.levels):
            x_0 = process.estimate(x, level).x_0
            length = after.log_snr - level.log_snr.clamp(min=MIN_LOG_SNR)  # (S,)
            straight = x_0
            if before is not None:
                slope = process.spread(length / (2 * before[1])) if after is not process.levels[-1] else 0.0
                straight = x_0 + slope * (x_0 - before[0])
            kept = after.sigma / level.sigma  # (S,)
            x = process.spread(kept) * x + process.spread(after.alpha - kept * level.alpha) * straight
            before = x_0, length
        return x
