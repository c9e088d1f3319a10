"""Settings of every token mixer."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict

from train.packing.shapes import BlockWindows

if TYPE_CHECKING:
    from train.model.mixers.base import TokenMixer


class MixerConfig(BaseModel, ABC):
    """What a block is told about its token mixers before they are built."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rotates: ClassVar[bool] = False
    """The mixer takes rotary positions."""

    @abstractmethod
    def windows(self, block: int, depth: int) -> BlockWindows:
        """Windows of each token mixer of block number `block` out of `depth`, in their order in the block."""

    @abstractmethod
    def pair_cost(self, width: int) -> float:
        """Cost of a pair of tokens of one sample over that of a token's linear layers: 0 where cost is linear."""

    @abstractmethod
    def build(self, *, width: int, num_heads: int, qk_norm: bool) -> "TokenMixer":
        """One token mixer."""

    def check(self, *, num_heads: int, depth: int) -> None:
        """See that a model of these sizes can have the mixer.

        Raises:
            ValueError: it cannot; says what would do.
        """
