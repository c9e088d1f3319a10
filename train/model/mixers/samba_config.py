"""Samba: state spaces remember the whole sample, sliding windows recall what is near (Ren et al. 2024)."""

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from train.model.mixers.base_config import MixerConfig, QKNorm
from train.model.mixers.mamba_config import MambaConfig
from train.model.mixers.sliding_config import SlidingConfig
from train.packing.shapes import BlockWindows

if TYPE_CHECKING:
    from train.model.mixers.base import TokenMixer


class SambaConfig(MixerConfig):
    """Blocks in turn mix by Mamba and by sliding-window attention, an MLP after each (Ren et al. 2024, §2.1)."""

    needs_whole_samples: ClassVar[str | None] = "the scan reads the tokens of a sample one after the other"
    rotates: ClassVar[bool] = True  # attention does

    kind: Literal["samba"] = "samba"
    mamba: MambaConfig = Field(MambaConfig(), description="of the first block, the third, …")
    attention: SlidingConfig = Field(SlidingConfig(), description="of the second block, the fourth, …")

    def of_block(self, block: int) -> MambaConfig | SlidingConfig:
        return self.attention if block % 2 else self.mamba

    def windows(self, block: int, depth: int) -> BlockWindows:
        """Each kind takes its orders in turn."""
        return self.of_block(block).windows(block // 2, depth)

    def pair_cost(self, width: int) -> float:
        """0: the cost is linear in tokens."""
        return 0.0

    def values_per_token(self, width: int) -> float:
        return max(one.values_per_token(width) for one in (self.mamba, self.attention))

    def check(self, *, width: int, num_heads: int, depth: int) -> None:
        if depth < 2:
            raise ValueError(f"mixer samba needs two blocks or more, got depth {depth}")
        self.mamba.check(width=width, num_heads=num_heads, depth=depth)

    def build(self, *, block: int, width: int, num_heads: int, qk_norm: QKNorm, qk_norm_eps: float) -> "TokenMixer":
        sizes: dict[str, Any] = {
            "width": width,
            "num_heads": num_heads,
            "qk_norm": qk_norm,
            "qk_norm_eps": qk_norm_eps,
        }
        return self.of_block(block).build(block=block // 2, **sizes)
