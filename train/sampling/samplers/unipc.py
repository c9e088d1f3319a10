"""UniPC of order 2 (Zhao et al. 2023, algorithms 1 and 2, for models that predict data)."""

from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from train.sampling.samplers.dpm_solver import MIN_LOG_SNR

if TYPE_CHECKING:
    from torch import Tensor

    from train.objective.base import NoiseLevel, Quantity
    from train.sampling.samplers.base import ReverseProcess


class UniPCSampler(BaseModel):
    """A predictor and a corrector of order 2 with B(h) = e^h - 1, deterministic, one evaluation of the model a step:
    the estimate that corrects a step is that of the next one. First and last step have order 1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    needs: "ClassVar[frozenset[Quantity]]" = frozenset({"x_0"})
    inverts: ClassVar[bool] = False
    kind: Literal["unipc"] = "unipc"

    def sample(self, x: "Tensor", process: "ReverseProcess") -> "Tensor":
        spread = process.spread
        begun: _Step | None = None  # the step that led here, from its start
        for level, after in pairwise(process.levels):
            x_0 = process.estimate(x, level).x_0
            if begun is not None:
                x = begun.corrected(x_0, process)
            begun = _Step(x, x_0, level, after, begun)
            if after is process.levels[-1]:
                return spread(after.alpha) * x_0
            x = begun.predicted(process)
        return x


class _Step:
    """From `level` to `after`. Letters as in the paper: h is half of the step's length in log-SNR, r the length of the
    step before, negative, over h."""

    def __init__(
        self, x: "Tensor", x_0: "Tensor", level: "NoiseLevel", after: "NoiseLevel", before: "_Step | None"
    ) -> None:
        self.x, self.x_0, self.level, self.after = x, x_0, level, after
        self.h = (after.log_snr - level.log_snr.clamp(min=MIN_LOG_SNR)) / 2  # (S,)
        self.r = None if before is None else -before.h / self.h
        self.change = None if before is None else before.x_0 - x_0  # (L, P): r · h of the slope

    def predicted(self, process: "ReverseProcess") -> "Tensor":
        """x at `after`."""
        factor = self.after.alpha * (-self.h).expm1()  # (S,)
        x = self._straight(process)
        if self.r is None or self.change is None:
            return x
        return x - process.spread(factor / (2 * self.r)) * self.change

    def corrected(self, x_0: "Tensor", process: "ReverseProcess") -> "Tensor":
        """x at `after`, with the estimate `x_0` (L, P) that the model has there."""
        shrink = (-self.h).expm1()  # e^-h - 1
        factor = self.after.alpha * shrink
        x = self._straight(process)
        if self.r is None or self.change is None:
            return x - process.spread(factor / 2) * (x_0 - self.x_0)
        # Conditions of order 1 and 2 (theorem 3.1) for weights of the slope before and of the new one.
        phi = shrink / -self.h - 1
        one, two = phi / shrink, 2 * (phi / -self.h - 0.5) / shrink
        of_before = (one - two) / (1 - self.r)
        of_new = one - of_before
        x = x - process.spread(factor * of_before / self.r) * self.change
        return x - process.spread(factor * of_new) * (x_0 - self.x_0)

    def _straight(self, process: "ReverseProcess") -> "Tensor":
        """Of order 1: the estimate stays as it is."""
        kept, drawn = self.after.sigma / self.level.sigma, self.after.alpha * (-self.h).expm1()
        return process.spread(kept) * self.x - process.spread(drawn) * self.x_0
