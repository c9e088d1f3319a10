"""Attention: its kernel, and who sees whom inside a sample.

Patterns cut samples into windows; a token sees those of its window. Sources: ViViT's factorisations (Arnab et al.
2021, §3.3), their block-wise counterparts in video DiTs (Latte, Ma et al. 2024, §3.2), and the windows of W.A.L.T
(Gupta et al. 2023, §3.2), where images pass the space-time blocks through themselves: each token sees itself alone.
Sparse-causal attention is Tune-A-Video's (Wu et al. 2023, §3.3).
"""

from pkgutil import resolve_name
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

from pydantic import Field, field_validator

from train.model.mixers.base_config import MixerConfig, QKNorm
from train.packing.shapes import SPARSE_CAUSAL, SPATIAL, TEMPORAL, WHOLE, BlockWindows, Window, WindowSize

if TYPE_CHECKING:
    from train.model.mixers.base import TokenMixer

Backend: TypeAlias = Literal["auto", "varlen", "flex", "segments", "dense"]

Pattern: TypeAlias = Literal[
    "joint",
    "spatial",
    "alternating",
    "factorized_encoder",
    "factorized_self_attention",
    "factorized_dot_product",
    "sparse_causal",
    "windows",
]


class AttentionConfig(MixerConfig):
    """Softmax attention within the windows of a pattern."""

    rotates: ClassVar[bool] = True
    needs_whole_samples: ClassVar[str | None] = None

    kind: Literal["attention"] = "attention"
    kernel: Backend = Field("auto", description="how attention is computed; auto: by device and precision")
    pattern: Pattern = Field(
        "joint",
        description="who sees whom inside a sample. joint: everyone. spatial: within a frame, as where "
        "model.temporal lets frames meet. alternating: blocks in turn within a frame and "
        "along time. factorized_encoder: the first half of the blocks within frames, the rest along time. "
        "factorized_self_attention: both in every block, one after the other. factorized_dot_product: both in every "
        "block, each by half of the heads. sparse_causal: both in every block, and tokens see the first frame and the "
        "one before in place of their own frame. windows: blocks in turn within spatial and space-time windows",
    )
    spatial_window: WindowSize = Field(
        (1, None, None),
        description="windows: size of the odd blocks' windows, in patches; none: the whole side. W.A.L.T has 1, 16, "
        "16 and frames that are no larger",
    )
    spacetime_window: WindowSize = Field(
        (None, 8, 8), description="windows: size of the even blocks' windows, in patches; W.A.L.T has 5, 8, 8"
    )
    shift_windows: bool = Field(False, description="windows: every second pair of blocks moves them by half")

    @field_validator("spatial_window", "spacetime_window")
    @classmethod
    def _sides_are_positive(cls, size: WindowSize) -> WindowSize:
        if any(side is not None and side < 1 for side in size):
            raise ValueError(f"got a window of {size}; expected sides above 0")
        return size

    def windows(self, block: int, depth: int) -> BlockWindows:
        """Windows of each attention of block number `block` out of `depth`."""
        odd = block % 2 == 1
        match self.pattern:
            case "joint":
                return ((WHOLE,),)
            case "spatial":
                return ((SPATIAL,),)
            case "alternating":
                return ((TEMPORAL if odd else SPATIAL,),)
            case "factorized_encoder":
                return ((SPATIAL if block < depth // 2 else TEMPORAL,),)
            case "factorized_self_attention":
                return ((SPATIAL,), (TEMPORAL,))
            case "factorized_dot_product":
                return ((SPATIAL, TEMPORAL),)
            case "sparse_causal":
                return ((SPARSE_CAUSAL,), (TEMPORAL,))
            case "windows":
                size = self.spacetime_window if odd else self.spatial_window
                shifted = self.shift_windows and block % 4 >= 2
                return ((Window(size=size, shifted=shifted, images_alone=odd),),)

    def pair_cost(self, width: int) -> float:
        """4 D operations of a pair, over 24 D² of a token."""
        return 1 / (6 * width)

    def check(self, *, width: int, num_heads: int, depth: int) -> None:
        if self.pattern == "factorized_dot_product" and num_heads % 2:
            raise ValueError(f"factorized_dot_product needs an even number of heads, got num_heads {num_heads}")
        if self.pattern in ("factorized_encoder", "sparse_causal") and depth < 2:
            raise ValueError(f"{self.pattern} needs at least two blocks, got depth {depth}")

    def build(self, *, block: int, width: int, num_heads: int, qk_norm: QKNorm, qk_norm_eps: float) -> "TokenMixer":
        sizes = {"width": width, "num_heads": num_heads, "qk_norm": qk_norm, "qk_norm_eps": qk_norm_eps}
        return resolve_name("train.model.mixers.attention:SelfAttention")(**sizes, kernel=self.kernel)

    def attends_by_ring(self, num_heads: int, depth: int, num_ranks: int) -> bool:
        """Each window layout has its share of the heads."""
        shares = {num_heads // len(heads) for block in range(depth) for heads in self.windows(block, depth)}
        return any(share % num_ranks for share in shares)

    def check_context(self, width: int, num_heads: int, depth: int, num_ranks: int) -> None:
        if self.kernel in ("flex", "dense") and self.attends_by_ring(num_heads, depth, num_ranks):
            raise ValueError(
                f"parallel.context is {num_ranks}, which does not divide the {num_heads} heads of model.num_heads "
                f"(pattern {self.pattern}): keys go round in a ring, for which kernel {self.kernel} gives too little. "
                "Set parallel.context to a divisor of the heads, or model.mixer.kernel to auto"
            )
