"""Settings of how the states of a picture come into a transformer."""

from pydantic import BaseModel, ConfigDict, Field


class PictureConfig(BaseModel):
    """Cross-attention reads them beside the caption, through keys and values of their own (Wan 2.1 image-to-video)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dim: int = Field(ge=1, description="features of a state: 1280 of CLIP's ViT-H")
    positions: int | None = Field(
        None, ge=1, description="learned vectors that are added to so many states (Wan's first and last frame); none"
    )
