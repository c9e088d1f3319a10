"""Settings of super-resolution of decoded videos, and what its folder says of it. Nothing here needs torch."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from train.autoencoder.config import DiffusersAutoencoderConfig, ReelpackConfig
from train.autoencoder.temporal_decoder.config import TemporalDecoderConfig

BaseConfig = Annotated[
    ReelpackConfig | DiffusersAutoencoderConfig | TemporalDecoderConfig, Field(discriminator="kind")
]


class SuperResolutionConfig(BaseModel):
    """Shape of the network."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    factor: Literal[2, 4] = Field(2, description="of height and width")
    width: int = Field(64, ge=8, description="channels of its layers")
    num_blocks: int = Field(4, ge=1, description="residual blocks: 3 x 3 in a frame, then 3 frames causal in time")
    reduction: Literal[1, 2] = Field(
        2, description="pixels of a side that a position of its layers covers; 1: four times the time"
    )


class TrainSuperResolutionConfig(SuperResolutionConfig):
    """Super-resolution of what an autoencoder decodes: the autoencoder stays as it is."""

    base: BaseConfig = Field(ReelpackConfig(), description="the autoencoder, as encode.autoencoder names it")


class SuperResolutionFolderConfig(SuperResolutionConfig):
    """`config.json` of a folder."""

    kind: Literal["super_resolution"] = "super_resolution"
    base_name: str
    base_fingerprint: str
