"""The family of image and image–text encoders: one line per member, in the union of what it embeds."""

from typing import Annotated

from pydantic import Field

from curate.encoders.conse import ConseConfig
from curate.encoders.efficientnet import EfficientNetConfig
from curate.encoders.open_clip import OpenClipConfig
from curate.encoders.vision import VisionConfig

ImageText = (
    ConseConfig
    | OpenClipConfig
)  # fmt: skip
"""Encoders of images and texts. Each of them is an image encoder as well."""

ImageConfig = Annotated[
    EfficientNetConfig
    | ImageText,
    Field(discriminator="kind"),
]  # fmt: skip
ImageTextConfig = Annotated[ImageText, Field(discriminator="kind")]
PatchConfig = Annotated[
    EfficientNetConfig
    | OpenClipConfig
    | VisionConfig,
    Field(discriminator="kind"),
]  # fmt: skip
"""Encoders that have features of the parts of an image, `patch_features`."""
