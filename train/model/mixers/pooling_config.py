"""Pooling: what a block of a transformer reaches without attention."""

from pkgutil import resolve_name
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from train.model.mixers.base_config import MixerConfig, QKNorm
from train.packing.shapes import BlockWindows, Window, WindowSize

if TYPE_CHECKING:
    from train.model.mixers.base import TokenMixer


class PoolingConfig(MixerConfig):
    """The mean of a window less the token itself (PoolFormer, Yu et al. 2022, §3.2)."""

    needs_whole_samples: ClassVar[str | None] = None

    kind: Literal["pooling"] = "pooling"
    window: WindowSize = Field((None, None, None), description="size of a window, in patches; none: the whole side")

    def windows(self, block: int, depth: int) -> BlockWindows:
        """The same in every block."""
        return ((Window(size=self.window),),)

    def pair_cost(self, width: int) -> float:
        """0: the cost is linear in tokens."""
        return 0.0

    def build(self, *, block: int, width: int, num_heads: int, qk_norm: QKNorm, qk_norm_eps: float) -> "TokenMixer":
        return resolve_name("train.model.mixers.pooling:Pooling")()

    def check_context(self, width: int, num_heads: int, depth: int, num_ranks: int) -> None:
        if width % num_ranks:
            raise ValueError(
                f"parallel.context is {num_ranks}, and each rank pools a part of model.width {width}; set "
                "parallel.context to a divisor of the width"
            )
