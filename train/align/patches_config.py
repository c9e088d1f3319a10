"""Settings of alignment by patch."""

from pkgutil import resolve_name
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from curate.encoders.config import PatchConfig
from curate.encoders.efficientnet import EfficientNetConfig
from train.align.settings import AlignSettings

if TYPE_CHECKING:
    import torch

    from train.align.base import Alignment
    from train.data.manifest import Manifest
    from train.packing.shapes import Patch


class PatchesConfig(AlignSettings):
    """Each token, to what an image encoder says of its part of the clip's frames (REPA)."""

    by_token: ClassVar[bool] = True
    kind: Literal["patches"] = "patches"
    encoder: PatchConfig = Field(
        EfficientNetConfig(), description="image encoder with features of patches; REPA has DINOv2-B"
    )
    stored: bool = Field(
        False,
        description="features are those of encode.features, of one frame of a token, and encoder is not loaded; "
        "false: frames are decoded and encoded while training",
    )
    frames: int = Field(
        1,
        ge=1,
        description="frames of a token that the encoder sees, evenly spread over those that it stands for, the middle "
        "one first; their features are averaged",
    )

    @model_validator(mode="after")
    def _stored_ones_are_of_one_frame(self) -> "PatchesConfig":
        if self.stored and self.frames > 1:
            raise ValueError(f"stored features are of one frame of a token, and frames is {self.frames}; leave it out")
        return self

    def build(
        self, manifest: "Manifest", *, width: int, patch: "Patch", seed: int, device: "torch.device"
    ) -> "Alignment":
        of_manifest = resolve_name("train.align.patches:of_manifest")
        alignment: Alignment = of_manifest(self, manifest, width, patch, seed, device)
        return alignment
