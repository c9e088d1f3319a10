"""Settings of the data that the embedded captioner is trained on."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class FilmConfig(BaseModel):
    """Captions written for shots of Big Buck Bunny, and stamps; the model is put together from its parts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["film"] = "film"
    stamps: Path | None = Field(None, description="unpacked Debian package tuxpaint-stamps-default")
    video: Path | None = Field(None, description="Big Buck Bunny at 24 fps; null: the asset bbb-film")
    video_share: float = Field(0.75, ge=0, le=1, description="share of the samples that are shots of the video")
    num_frames: int = Field(4, ge=1, description="frames of most video samples, as the captioner samples them")
