"""Image–text encoders: images and texts in one space, where the cosine says how well they match.

A new one is a file with its config and its class, and one line in `ImageTextConfig`.
"""

from collections.abc import Sequence
from typing import Annotated, Protocol

import numpy as np
from pydantic import Field

from curate.encoders.base import ImageEncoder
from curate.encoders.conse import ConseConfig
from curate.encoders.open_clip import OpenClipConfig


class ImageTextEncoder(ImageEncoder, Protocol):
    """An image encoder that embeds texts too."""

    @property
    def name(self) -> str:
        """What people see beside a score."""

    def embed_images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """N ≥ 1 images, (H, W, 3) uint8 RGB of any sizes, to (N, d) float32 of unit length."""

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """M texts to (M, d) float32 of unit length."""


ImageTextConfig = Annotated[ConseConfig | OpenClipConfig, Field(discriminator="kind")]
