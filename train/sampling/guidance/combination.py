"""What a combination is: how the update that the rules ask for is added to the model's answer.

A combination is a settings class in a file of its own, and a line in `train/sampling/guidance/config.py`. It sees one
pack: L tokens of S segments, P features.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The model's answer at one noise level, and what guidance would add to it; float32.

    Attributes:
        output: (L, P), of the whole samples.
        update: (L, P): Σ (weight - 1) · (output - output of the rule's branch).
        data: (L, P), the x_0 that `output` says.
        data_scale: (L, 1): an output that is larger by 1 says an x_0 that is larger by this.
        mean: (L, P) to (L, 1): over the values of each segment, without given tokens.
        memory: Kept from one noise level to the next.
    """

    output: "Tensor"
    update: "Tensor"
    data: "Tensor"
    data_scale: "Tensor"
    mean: "Callable[[Tensor], Tensor]"
    memory: "dict[str, Tensor]" = field(default_factory=dict)


class Combination(Protocol):
    kind: str

    @property
    def is_plain(self) -> bool:
        """It adds the update as it is."""

    def combined(self, answer: Answer) -> "Tensor":
        """The guided output, (L, P)."""
