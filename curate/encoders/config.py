"""The image and image–text encoders that a configuration can name: one line per member.

A new one is a file with its config and its class, and one line here.
"""

from typing import Annotated

from pydantic import Field

from curate.encoders.conse import ConseConfig
from curate.encoders.efficientnet import EfficientNetConfig
from curate.encoders.open_clip import OpenClipConfig

ImageConfig = Annotated[EfficientNetConfig | ConseConfig | OpenClipConfig, Field(discriminator="kind")]

ImageTextConfig = Annotated[ConseConfig | OpenClipConfig, Field(discriminator="kind")]
