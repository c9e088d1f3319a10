"""Settings of the training of a temporal decoder, and what its folder says of it. Nothing here needs torch."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from train.autoencoder.config import DiffusersAutoencoderConfig, ReelpackConfig

BaseConfig = Annotated[ReelpackConfig | DiffusersAutoencoderConfig, Field(discriminator="kind")]
Trains = Literal["temporal", "decoder"]


class TrainTemporalDecoderConfig(BaseModel):
    """An autoencoder of images becomes one of videos: its encoder stays, its decoder gets temporal layers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: BaseConfig = Field(description="the autoencoder, as encode.autoencoder names it: kind reelpack or diffusers")
    trains: Trains = Field("temporal", description="temporal: the new layers alone; decoder: with the whole decoder")
    copy_base: bool = Field(False, description="copy the base's folder into RUN/weights; false: it is named there")

    @model_validator(mode="after")
    def _gradients_have_enough_bits(self) -> Self:
        dtype = getattr(self.base, "dtype", "float32")
        if dtype == "float16":
            raise ValueError("base.dtype: got float16, in which gradients vanish; expected float32 or bfloat16")
        if self.trains == "decoder" and dtype != "float32":
            raise ValueError(f"trains=decoder: got base.dtype {dtype}; weights are trained in float32")
        return self


class FolderConfig(BaseModel):
    """`config.json` of a temporal decoder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["temporal_decoder"] = "temporal_decoder"
    base: BaseConfig
    base_fingerprint: str
    trains: Trains
