"""The family of distances of frames: settings of each member. Their classes, which need torch, are in files of their
own."""

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    import torch

    from train.autoencoder.perceptual.base import FrameDistance

EMBEDDED_MODEL = "tf_efficientnet_lite0"
SMALLEST_PX = {"alex": 31, "squeeze": 17, "vgg": 16}
"""Sides of frames; below them a pooling has no output."""


class LpipsConfig(BaseModel):
    """LPIPS 0.1 with its learned heads (Zhang et al. 2018), which the package `lpips` has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["lpips"] = "lpips"
    net: Literal["squeeze", "alex", "vgg"] = Field(
        "squeeze", description="SqueezeNet 1.1 (smallest), AlexNet (as papers report it) or VGG16 (as LDM trains with)"
    )
    path: str | None = Field(
        None, description="state dict of the net, as torchvision has it; null: torchvision downloads it once"
    )

    @property
    def name(self) -> str:
        """Of the figure: what measured it."""
        return f"lpips_{self.net}"

    @property
    def min_side_px(self) -> int:
        return SMALLEST_PX[self.net]

    def build(self, device: "torch.device") -> "FrameDistance":
        distance: FrameDistance = resolve_name("train.autoencoder.perceptual.lpips_heads:Lpips")(self, device)
        return distance


class FeaturesConfig(BaseModel):
    """Distance of a classifier's normalized features, without learned heads: it is no LPIPS."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["features"] = "features"
    model: str = Field(EMBEDDED_MODEL, description="convolutional architecture of timm")
    path: str | None = Field(
        None, description="its state dict, .safetensors or .pth; null: the embedded EfficientNet-Lite0"
    )

    @model_validator(mode="after")
    def _weights_are_given(self) -> Self:
        if self.path is None and self.model != EMBEDDED_MODEL:
            raise ValueError(f"model {self.model}: got no path of its weights; only {EMBEDDED_MODEL} is embedded")
        return self

    @property
    def name(self) -> str:
        """Of the figure: what measured it."""
        return f"features_{self.model.removeprefix('tf_')}"

    @property
    def min_side_px(self) -> int:
        return 32  # of which the last stage sees one position

    def build(self, device: "torch.device") -> "FrameDistance":
        distance: FrameDistance = resolve_name("train.autoencoder.perceptual.features:Features")(self, device)
        return distance


FrameDistanceConfig = Annotated[
    LpipsConfig  # one line per member
    | FeaturesConfig,
    Field(discriminator="kind"),
]
