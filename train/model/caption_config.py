"""Settings of how a caption's token states come into a transformer."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class CaptionConfig(BaseModel):
    """What an MLP of two layers makes of them (PixArt-α, Chen et al. 2023, §2.3), with what is added here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    norm: bool = Field(True, description="layer norm of the states before the MLP")
    out_norm: bool = Field(False, description="RMS norm of the tokens after the MLP (Sana)")
    pooled: bool = Field(True, description="the mean of the tokens is a condition beside the timestep")
    absent: Literal["learned", "zeros"] = Field(
        "learned", description='what stands for "no caption": a learned token, or one state of zeros'
    )
