"""Image–text encoders: images and texts in one space, where the cosine says how well they match.

A new one is a file with its config and its class, and one line in `ImageTextConfig`.
"""

from collections.abc import Sequence
from typing import Annotated, Protocol

import numpy as np
from pydantic import Field

from curate.encoders.conse import ConseConfig
from curate.encoders.open_clip import OpenClipConfig


class ImageTextEncoder(Protocol):
    """Cheap to construct and to pickle; `setup` loads the weights, once per worker."""

    @property
    def name(self) -> str:
        """What people see beside a score."""

    @property
    def fingerprint(self) -> str:
        """Names the function computed: weights and the settings that change a value. Needs no `setup`.

        Raises:
            MissingWeights: local weights that are not there.
        """

    def setup(self) -> None:
        """Load the weights."""

    def embed_images(self, images: np.ndarray) -> np.ndarray:
        """(N, H, W, 3) uint8 RGB to (N, d) float32 of unit length."""

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """M texts to (M, d) float32 of unit length."""


ImageTextConfig = Annotated[ConseConfig | OpenClipConfig, Field(discriminator="kind")]
