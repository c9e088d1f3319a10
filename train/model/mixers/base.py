"""What a token mixer is: the part of a block in which tokens of one sample exchange features.

A new one is a file with its class, a file with its settings, and a line in `train/model/mixers/config.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from train.model.position import Rotation
from train.packing.segments import WindowLayout


class TokenMixer(nn.Module, ABC):
    """(N, D) to (N, D). A token depends on tokens of its own window alone, never on another segment."""

    @abstractmethod
    def forward(self, x: Tensor, layouts: Sequence[WindowLayout], rotation: Rotation | None) -> Tensor:
        """
        Args:
            x: (N, D) tokens of a pack.
            layouts: of the windows that the settings name for this mixer.
            rotation: rotary positions of the N tokens; None: the model has none.

        Returns:
            (N, D), which the block adds to its input.
        """

    @abstractmethod
    def flops(self, layouts: Sequence[WindowLayout], num_tokens: int) -> int:
        """Matrix products of one forward pass over N = `num_tokens`; a multiplication and an addition are two."""

    def initialize(self) -> None:
        """Draw weights otherwise than Xavier-uniform."""
