"""Mamba-2: a state-space model reads the tokens of a sample one after the other, at linear cost."""

from pkgutil import resolve_name
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from train.model.mixers.base_config import MixerConfig, QKNorm
from train.packing.shapes import BlockWindows, ScanOrder, Window

if TYPE_CHECKING:
    from train.model.mixers.base import TokenMixer

USUAL_HEAD = 64
"""Features of a head, about."""


class MambaConfig(MixerConfig):
    """Selective state spaces (Dao & Gu 2024, Mamba-2, §7). The model's heads are there twice, each with half of the
    features: one set reads forward, the other backward."""

    needs_whole_samples: ClassVar[str | None] = "the scan reads the tokens of a sample one after the other"

    kind: Literal["mamba"] = "mamba"
    state: int = Field(64, ge=1, description="numbers of the state for each feature")
    expand: int = Field(2, ge=1, description="features inside the mixer over the model's width")
    taps: int = Field(4, ge=1, description="tokens that the short convolution before the scan reaches over")
    orders: tuple[ScanOrder, ...] = Field(
        ("thw", "hwt"),
        min_length=1,
        description="how blocks in turn read the patches: by these axes, the slowest first; hwt: along time",
    )
    chunk: int = Field(
        64, ge=1, description="tokens whose pairs are computed at a time; changes no value beyond rounding"
    )

    scan: Literal["torch", "fused"] = Field(
        "torch",
        description="what computes the scan; fused: a kernel of fla-core on a GPU (`reelpack[fused]`), torch on a "
        "CPU. The kernel has not been run here",
    )

    def windows(self, block: int, depth: int) -> BlockWindows:
        """Both directions over the whole sample."""
        order = self.orders[block % len(self.orders)]
        return (tuple(Window(size=(None, None, None), order=order, backward=way) for way in (False, True)),)

    def pair_cost(self, width: int) -> float:
        """0: the cost is linear in tokens."""
        return 0.0

    def values_per_token(self, width: int) -> float:
        """Inner features at the gate, the convolution and the scan; decays and products of a chunk's pairs."""
        inner = self.expand * width
        return 4 * inner + 2 * self.chunk * inner / USUAL_HEAD

    def check(self, *, width: int, num_heads: int, depth: int) -> None:
        inner = self.expand * width
        if inner % (2 * num_heads):
            raise ValueError(
                f"mixer mamba: got {inner} features (width {width} x expand {self.expand}) for {num_heads} heads in "
                "two directions; expected a multiple of twice the heads: an even train.model.mixer.expand gives one"
            )

    def build(self, *, block: int, width: int, num_heads: int, qk_norm: QKNorm, qk_norm_eps: float) -> "TokenMixer":
        return resolve_name("train.model.mixers.mamba:Mamba")(self, width=width, num_heads=num_heads)
