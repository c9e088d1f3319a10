"""Settings of every token mixer."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from train.packing.shapes import BlockWindows, Patch

if TYPE_CHECKING:
    from train.model.mixers.base import TokenMixer

LOOSE = 1e-5
"""What the norm of queries and keys may add to the mean square instead of 1e-6."""
QKNorm: TypeAlias = bool | Literal["width"]
"""Norm of queries and keys: none, over the width of each head, or over all heads at once."""


class MixerConfig(BaseModel, ABC):
    """What a block is told about its token mixers before they are built."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rotates: ClassVar[bool] = False
    """The mixer takes rotary positions."""
    reads_context: ClassVar[bool] = True
    """Patches see the in-context tokens of their sample, wherever they are."""

    needs_whole_samples: ClassVar[str | None] = "it mixes the tokens of a sample on one rank"
    """Why ranks cannot share the tokens of a pack; None: they can."""

    @abstractmethod
    def windows(self, block: int, depth: int) -> BlockWindows:
        """Windows of each token mixer of block number `block` out of `depth`, in their order in the block."""

    @abstractmethod
    def pair_cost(self, width: int) -> float:
        """Cost of a pair of tokens of one sample over that of a token's linear layers: 0 where cost is linear."""

    @abstractmethod
    def build(self, *, block: int, width: int, num_heads: int, qk_norm: QKNorm, qk_norm_eps: float) -> "TokenMixer":
        """One token mixer of block number `block`."""

    def values_per_token(self, width: int) -> float:
        """Numbers that it holds for each token while it samples; by default queries, keys, values and output."""
        return 4 * width

    def islands(self, grid: Patch, depth: int) -> str | None:
        """Why patches of a sample of this grid cannot all reach each other though windows leave none apart, and what
        to set; None: they can."""
        return None

    def check(self, *, width: int, num_heads: int, depth: int) -> None:
        """See that a model of these sizes can have the mixer.

        Raises:
            ValueError: it cannot; says what would do.
        """

    def check_context(self, width: int, num_heads: int, depth: int, num_ranks: int) -> None:
        """See that so many ranks can share the tokens of a pack.

        Raises:
            ValueError: they cannot; says why.
        """
        if self.needs_whole_samples is not None:
            raise ValueError(
                f"parallel.context is {num_ranks}, and of {type(self).__name__.removesuffix('Config')} as model.mixer "
                f"{self.needs_whole_samples}; set parallel.context to 1, or model.mixer.kind to attention"
            )

    def attends_by_ring(self, num_heads: int, depth: int, num_ranks: int) -> bool:
        """Of ranks that share a pack each meets the keys of all, because the heads do not divide by them."""
        return False
