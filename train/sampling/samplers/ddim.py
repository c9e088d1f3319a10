"""Denoising diffusion implicit models (Song et al. 2021)."""

from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from torch import Tensor

    from train.objective.base import Quantity
    from train.sampling.samplers.base import ReverseProcess


class DDIMSampler(BaseModel):
    """Order 1: eq. 12, for any alpha and sigma.

    diffusers' scheduler steps by ⌊T / num_steps⌋. It does not end at the data where num_steps does not divide T.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    needs: "ClassVar[frozenset[Quantity]]" = frozenset({"x_0", "noise"})
    kind: Literal["ddim"] = "ddim"
    eta: float = Field(
        0.0, ge=0, le=1, description="noise that a step adds: 0 is deterministic, 1 adds the posterior's (eq. 16)"
    )

    @property
    def inverts(self) -> bool:
        return not self.eta

    def sample(self, x: "Tensor", process: "ReverseProcess") -> "Tensor":
        from train.objective.posterior import posterior

        for level, after in pairwise(process.levels):
            found = process.estimate(x, level)
            if not self.eta:
                x = process.spread(after.alpha) * found.x_0 + process.spread(after.sigma) * found.noise
                continue
            variance = self.eta**2 * posterior(level.alpha, level.sigma, after.alpha, after.sigma).variance  # (S,)
            kept = (after.sigma**2 - variance).clamp(min=0).sqrt()
            x = process.spread(after.alpha) * found.x_0 + process.spread(kept) * found.noise
            if after is not process.levels[-1]:
                x = x + process.spread(variance.sqrt()) * process.draw_noise()
        return x
