"""Settings of an autoencoder whose decoder was fine-tuned for videos. Nothing here needs torch."""

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import torch

    from train.autoencoder.base import VideoAutoencoder


class TemporalDecoderConfig(BaseModel):
    """Latents of its base, decoded with temporal layers (`train_autoencoder.temporal_decoder`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["temporal_decoder"] = "temporal_decoder"
    path: str = Field(description="folder that `reelpack train-autoencoder` wrote with a temporal_decoder")
    base: str | None = Field(
        None, description="folder or hub id of the base, where it is not the one that the folder names"
    )
    chunk_latent_frames: int = Field(
        8, ge=1, description="latent frames decoded at a time: bounds memory, changes no value beyond rounding"
    )
    tile_px: int | None = Field(
        None,
        ge=64,
        description="longest side that is decoded at a time, in overlapping tiles: bounds memory, changes values "
        "near the seams; null: frames are not divided",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: CUDA where there is a device")

    def build(self, device: "torch.device | None" = None) -> "VideoAutoencoder":
        """On `device`, the worker's, where the settings do not name another kind."""
        return resolve_name("train.autoencoder.temporal_decoder.autoencoder:TemporalDecoderAutoencoder")(self, device)
