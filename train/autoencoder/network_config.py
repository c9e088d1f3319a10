"""Shape of a video autoencoder: strides, widths, bottleneck, and the statistics of its latents. Needs no torch."""

from math import log2
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from train.autoencoder.bottlenecks.config import BottleneckConfig, KLConfig

PATCH = 4
"""Pixels per side that the first space-to-depth takes."""
WIDTHS = (48, 128, 192, 256)


class NetworkConfig(BaseModel):
    """Of an encoder, a bottleneck and a decoder; stored in the weights' folder as `config.json`.

    A *level* is what lies between two reductions of time or space. The first level has a frame's patches of 4 px.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    spatial_stride: Literal[4, 8, 16, 32] = Field(8, description="pixels of a side that become one latent position")
    temporal_stride: Literal[1, 2, 4, 8] = Field(
        4, description="frames that become one latent frame; the first frame of a video is one by itself"
    )
    over_time: bool = Field(
        True, description="convolutions reach over 3 frames; false: frames are coded alone (temporal_stride: 1)"
    )
    latent_channels: int = Field(16, ge=1, description="channels of a latent position")
    bottleneck: BottleneckConfig = Field(KLConfig(), description="kl, vq or fsq")
    widths: tuple[int, ...] | None = Field(
        None, description="channels of each level, the finest first; null: the first of 48, 128, 192, 256"
    )
    encoder_blocks: tuple[int, ...] | None = Field(None, description="residual blocks per level; null: 1 of each")
    decoder_blocks: tuple[int, ...] | None = Field(None, description="residual blocks per level; null: 2 of each")
    latent_mean: tuple[float, ...] | None = Field(
        None, description="mean of the raw latents per channel over the training data; null before it was measured"
    )
    latent_std: tuple[float, ...] | None = Field(
        None, description="standard deviation of the raw latents per channel; null before it was measured"
    )

    @model_validator(mode="after")
    def _one_value_per_level(self) -> Self:
        for name in ("widths", "encoder_blocks", "decoder_blocks"):
            given = getattr(self, name)
            if given is not None and (len(given) != self.num_levels or min(given) < (1 if name == "widths" else 0)):
                raise ValueError(
                    f"{name}: got {list(given)}; strides {self.spatial_stride} and {self.temporal_stride} have "
                    f"{self.num_levels} levels, so {self.num_levels} numbers are expected"
                )
        return self

    @model_validator(mode="after")
    def _frames_alone_have_no_stride(self) -> Self:
        if not self.over_time and self.temporal_stride != 1:
            raise ValueError(f"over_time=false: got temporal_stride {self.temporal_stride}, expected 1")
        return self

    @property
    def reductions(self) -> tuple[tuple[int, int], ...]:
        """Frames and pixels that each reduction puts together, the finest first."""
        in_space, in_time = round(log2(self.spatial_stride // PATCH)), round(log2(self.temporal_stride))
        return tuple((1 + (i < in_time), 1 + (i < in_space)) for i in range(max(in_space, in_time)))

    @property
    def num_levels(self) -> int:
        return len(self.reductions) + 1

    @property
    def level_widths(self) -> tuple[int, ...]:
        return self.widths or WIDTHS[: self.num_levels]

    @property
    def level_blocks(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of the encoder and of the decoder."""
        return self.encoder_blocks or (1,) * self.num_levels, self.decoder_blocks or (2,) * self.num_levels

    @property
    def num_channels(self) -> int:
        """Of a latent position."""
        return self.bottleneck.num_channels(self.latent_channels)
