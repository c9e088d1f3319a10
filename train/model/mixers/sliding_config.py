"""Sliding-window attention: a token sees its neighbors in the order of a scan, at linear cost."""

from pkgutil import resolve_name
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from train.model.mixers.base_config import MixerConfig, QKNorm
from train.packing.shapes import BlockWindows, Patch, ScanOrder, Window

if TYPE_CHECKING:
    from train.model.mixers.base import TokenMixer


class SlidingConfig(MixerConfig):
    """Softmax attention to the tokens at most `reach` before or after (Beltagy et al. 2020, Longformer, §3.1)."""

    needs_whole_samples: ClassVar[str | None] = (
        "a token sees its neighbors, and those at an edge would be other ranks'"
    )
    rotates: ClassVar[bool] = True
    reads_context: ClassVar[bool] = False  # in-context tokens are near the first patches alone

    kind: Literal["sliding_attention"] = "sliding_attention"
    reach: int = Field(256, ge=1, description="tokens before and after a token that it sees")
    orders: tuple[ScanOrder, ...] = Field(
        ("thw", "hwt"),
        min_length=1,
        description="how blocks in turn put the patches in a row: by these axes, the slowest first; hwt: along time",
    )

    def windows(self, block: int, depth: int) -> BlockWindows:
        """The whole sample, in an order that says who is near."""
        return ((Window(size=(None, None, None), order=self.orders[block % len(self.orders)]),),)

    def pair_cost(self, width: int) -> float:
        """0: the cost is linear in tokens."""
        return 0.0

    def islands(self, grid: Patch, depth: int) -> str | None:
        if resolve_name("train.model.mixers.sliding:reaches_all")(self, grid, depth):
            return None
        return f"a reach of {self.reach} tokens in {depth} blocks; set train.model.mixer.reach higher, or more blocks"

    def build(self, *, block: int, width: int, num_heads: int, qk_norm: QKNorm, qk_norm_eps: float) -> "TokenMixer":
        sizes = {"width": width, "num_heads": num_heads, "qk_norm": qk_norm, "qk_norm_eps": qk_norm_eps}
        return resolve_name("train.model.mixers.sliding:SlidingAttention")(**sizes, reach=self.reach)
