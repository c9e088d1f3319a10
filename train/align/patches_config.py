"""Settings of alignment by patch."""

from pkgutil import resolve_name
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

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
    frames: int = Field(
        1,
        ge=1,
        description="frames of a token that the encoder sees, evenly spread over those that it stands for, the middle "
        "one first; their features are averaged",
    )

    def build(
        self, manifest: "Manifest", *, width: int, patch: "Patch", seed: int, device: "torch.device"
    ) -> "Alignment":
        of_manifest = resolve_name("train.align.patches:of_manifest")
        alignment: Alignment = of_manifest(self, manifest, width, patch, seed, device)
        return alignment
