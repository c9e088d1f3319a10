"""Image encoders: images to unit vectors, in two steps, so that several of them can share the costly one.

A *backbone* looks at the pixels; an encoder turns its features into embeddings. Two encoders whose backbones have the
same fingerprint need one model in memory and one look at each picture. A new one is a file with its config and its
class, and one line in `ImageConfig`.
"""

from collections.abc import Sequence
from typing import Annotated, Protocol, TypeVar

import numpy as np
from pydantic import Field

from curate.encoders.conse import ConseConfig
from curate.encoders.efficientnet import EfficientNetConfig
from curate.encoders.open_clip import OpenClipConfig


class Backbone(Protocol):
    """Cheap to construct and to pickle; `setup` loads the weights, once per worker."""

    @property
    def fingerprint(self) -> str:
        """Names the function pixels → features. Needs no `setup`.

        Raises:
            MissingWeights: local weights that are not there.
        """

    @property
    def on_gpu(self) -> bool:
        """Whether images of many clips are worth joining. Known after `setup`."""

    def setup(self) -> None:
        """Load the weights; the second call does nothing."""

    def features(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """N ≥ 1 images, (H, W, 3) uint8 RGB of any sizes, to (N, f) float32."""


class ImageEncoder(Protocol):
    """Cheap to construct and to pickle; `setup` loads the weights, once per worker."""

    backbone: Backbone

    @property
    def fingerprint(self) -> str:
        """Names the function pixels → embedding: weights and settings that change a value. Needs no `setup`.

        Raises:
            MissingWeights: local weights that are not there.
        """

    def setup(self) -> None:
        """Load the weights, those of the backbone too; the second call does nothing."""

    def embed_features(self, features: np.ndarray) -> np.ndarray:
        """(N, f) features of the backbone to (N, d) float32 of unit length."""


ImageConfig = Annotated[EfficientNetConfig | ConseConfig | OpenClipConfig, Field(discriminator="kind")]

Encoder = TypeVar("Encoder", bound=ImageEncoder)


class EncoderPool:
    """Encoders that are loaded, each once."""

    def __init__(self) -> None:
        self._encoders: dict[str, ImageEncoder] = {}
        self._backbones: dict[str, Backbone] = {}

    def load(self, encoder: Encoder) -> Encoder:
        """The encoder of the same fingerprint that is loaded already, else this one, now loaded."""
        if encoder.fingerprint not in self._encoders:
            encoder.backbone = self._backbones.setdefault(encoder.backbone.fingerprint, encoder.backbone)
            encoder.setup()
            self._encoders[encoder.fingerprint] = encoder
        return self._encoders[encoder.fingerprint]  # type: ignore[return-value]  # equal fingerprint, equal function
