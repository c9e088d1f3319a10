"""What a rule of guidance is: what it drops, and how far it leads away from the model's answer without that.

A rule is a settings class in a file of its own, and a line in `train/sampling/guidance/config.py`.
"""

from typing import Literal, Protocol, TypeAlias

Droppable: TypeAlias = Literal["caption", "label", "scalars", "frames"]
"""Parts of a sample that a branch leaves out: `scalars` are scalar conditions, `frames` conditioning frames."""


class GuidanceRule(Protocol):
    """Adds (weight - 1) · (y - y_dropped) to the model's answer y: weight 1 is no guidance."""

    kind: str
    drop: tuple[Droppable, ...]

    def weight_at(self, time: float) -> float:
        """The weight at a share of noise from 0 (data) to 1 (noise), see `NoiseLevel.time`."""

    @property
    def weights(self) -> tuple[float, ...]:
        """The weights it takes; of a continuous range some inside are enough."""
