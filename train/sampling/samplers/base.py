"""What a sampler is: how noise becomes data by what the model says at each noise level.

A sampler is its settings and one method, in a file of its own, and a line in `train/sampling/samplers/config.py`. It
computes coefficients of the levels in float64, one per segment, and spreads them over the tokens. It knows neither the
objective nor guidance.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from train.objective.base import Estimate, NoiseLevel, Quantity


@dataclass(frozen=True, kw_only=True, slots=True)
class ReverseProcess:
    """One pack on its way from noise to data: L tokens of S segments."""

    levels: "Sequence[NoiseLevel]"  # num_steps + 1, noise first; the last is the data, where sigma is 0
    estimate: "Callable[[Tensor, NoiseLevel], Estimate]"  # what the model says of x (L, P) at a level
    spread: "Callable[[Tensor], Tensor]"  # coefficients of the segments, (S,) float64, to (L, 1) of the tokens' type
    draw_noise: "Callable[[], Tensor]"  # fresh standard normal noise (L, P), each segment's own


class Sampler(Protocol):
    """Frozen settings with a `kind`."""

    kind: str
    needs: "ClassVar[frozenset[Quantity]]"  # which parts of an estimate it reads: it fits objectives that give them

    @property
    def inverts(self) -> bool:
        """It also leads from data to noise, over the levels in reverse: no step draws noise, or knows another."""

    def sample(self, x: "Tensor", process: ReverseProcess) -> "Tensor":
        """Noise (L, P) at the first level to data (L, P)."""
