"""Linear attention: every token sees all of its sample, or of its frame, at linear cost."""

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from train.model.mixers.base_config import MixerConfig, QKNorm
from train.packing.shapes import SPATIAL, WHOLE, BlockWindows

if TYPE_CHECKING:
    from train.model.mixers.base import TokenMixer


class LinearConfig(MixerConfig):
    """Attention with ReLU of queries and keys in place of the softmax (Sana, Xie et al. 2024, §2.2)."""

    kind: Literal["linear_attention"] = "linear_attention"
    pattern: Literal["joint", "spatial"] = Field(
        "joint", description="what a token sees: joint: all of its sample; spatial: its frame"
    )
    bias: bool = Field(True, description="queries, keys and values have biases (Sana: false)")

    def windows(self, block: int, depth: int) -> BlockWindows:
        """The same in every block."""
        return ((WHOLE if self.pattern == "joint" else SPATIAL,),)

    def pair_cost(self, width: int) -> float:
        """0: the cost is linear in tokens."""
        return 0.0

    def build(self, *, block: int, width: int, num_heads: int, qk_norm: QKNorm, qk_norm_eps: float) -> "TokenMixer":
        sizes = {"width": width, "num_heads": num_heads, "qk_norm": qk_norm, "qk_norm_eps": qk_norm_eps}
        return resolve_name("train.model.mixers.linear:LinearAttention")(**sizes, bias=self.bias)
