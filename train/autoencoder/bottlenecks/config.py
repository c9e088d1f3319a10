"""The family of bottlenecks: settings of each member. Their classes, which need torch, are in files of their own."""

from math import prod
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

if TYPE_CHECKING:
    from train.autoencoder.bottlenecks.base import Bottleneck


class KLConfig(BaseModel):
    """A Gaussian posterior, slightly regularized (Rombach et al. 2022, section 3.1)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["kl"] = "kl"
    weight: float = Field(5e-4, ge=0, description="of the KL divergence from a standard normal, per latent value")

    def num_channels(self, latent_channels: int) -> int:
        """Channels of a latent position."""
        return latent_channels

    def build(self, latent_channels: int) -> "Bottleneck":
        bottleneck: Bottleneck = resolve_name("train.autoencoder.bottlenecks.kl:KL")(self, latent_channels)
        return bottleneck


class VQConfig(BaseModel):
    """The nearest vector of a codebook (van den Oord et al. 2017)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["vq"] = "vq"
    codebook_size: int = Field(4096, ge=2, description="vectors of the codebook")
    commitment: float = Field(0.25, ge=0, description="weight of the distance from the encoder's output to its code")
    decay: float = Field(0.95, gt=0, lt=1, description="of the averages that the codes follow")
    revive_below: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="a code that is used less than this share of the mean use is put on an output of "
        "the encoder; 0: never",
    )

    def num_channels(self, latent_channels: int) -> int:
        """Channels of a latent position."""
        return latent_channels

    def build(self, latent_channels: int) -> "Bottleneck":
        bottleneck: Bottleneck = resolve_name("train.autoencoder.bottlenecks.vq:VQ")(self, latent_channels)
        return bottleneck


class FSQConfig(BaseModel):
    """Every channel is rounded to a few levels (Mentzer et al. 2023); it has no weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["fsq"] = "fsq"
    levels: tuple[int, ...] = Field(
        (8, 8, 8, 5, 5, 5), min_length=1, description="levels of each channel; `latent_channels` does not count"
    )

    @field_validator("levels")
    @classmethod
    def _at_least_two(cls, levels: tuple[int, ...]) -> tuple[int, ...]:
        if min(levels) < 2 or prod(levels) > 2**31:
            raise ValueError(f"got levels {levels}; expected 2 or more of each channel, and at most 2^31 codes")
        return levels

    def num_channels(self, latent_channels: int) -> int:
        """Channels of a latent position."""
        return len(self.levels)

    def build(self, latent_channels: int) -> "Bottleneck":
        bottleneck: Bottleneck = resolve_name("train.autoencoder.bottlenecks.fsq:FSQ")(self, latent_channels)
        return bottleneck


BottleneckConfig = Annotated[
    KLConfig  # one line per member
    | VQConfig
    | FSQConfig,
    Field(discriminator="kind"),
]
