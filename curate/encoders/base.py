"""Image encoders: images to unit vectors, in two steps; several encoders can share the first one, which is slow.

A *backbone* turns pixels into features; an encoder turns features into embeddings. Two encoders whose backbones have
the same fingerprint need one model in memory and one forward pass for each image. Image–text encoders also embed texts
into the same space, where the cosine measures how well they match.
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np


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
        """Whether batches over many clips are faster. Known after `setup`."""

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


class ImageTextEncoder(ImageEncoder, Protocol):
    """An image encoder that embeds texts too."""

    @property
    def name(self) -> str:
        """The name that is shown with a score."""

    def embed_images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """N ≥ 1 images, (H, W, 3) uint8 RGB of any sizes, to (N, d) float32 of unit length."""

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """M texts to (M, d) float32 of unit length."""

    def fits(self, text: str) -> bool:
        """Whether the encoder reads the whole text; the end of a longer one is cut off. Known after `setup`."""


class PatchEncoder(Protocol):
    """An encoder that says something of each part of an image."""

    @property
    def fingerprint(self) -> str:
        """Names the function pixels → features. Needs no `setup`.

        Raises:
            MissingWeights: local weights that are not there.
        """

    def setup(self) -> None:
        """Load the weights; the second call does nothing."""

    def patch_features(self, images: np.ndarray) -> np.ndarray:
        """N ≥ 1 images of one size, (N, H, W, 3) uint8 RGB, to (N, f, h, w) float32.

        The h x w cells divide the whole image evenly: it is scaled to what the network takes, and not cropped.
        """


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
