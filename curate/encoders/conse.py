"""ConSE: zero-shot image–text similarity from an ImageNet classifier and a sentence encoder. Embedded, and weak.

Norouzi et al. 2014, "Zero-Shot Learning by Convex Combination of Semantic Embeddings" (arXiv:1312.5650), section 3.2:
an image's embedding is the mean of the embeddings of its T most probable classes, weighted by their probabilities.
Departures: classes and texts are embedded by a sentence encoder (MiniLM; classes as "a photo of a …") instead of
skip-gram word vectors, and the mean of the class embeddings is subtracted on both sides. Without that, what all
classes share (being things in photos) makes "a logo" the best match of nearly every image; docs/models/conse.md has
figures. It knows the 1000 ImageNet classes alone. It is not CLIP: its similarities do not compare with those of CLIP.
"""

import importlib.util
import runpy
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from curate.encoders import weights
from curate.encoders.efficientnet import WEIGHTS, EfficientNetBackbone
from curate.encoders.efficientnet_lite import load_classifier
from curate.encoders.text import TextEncoder
from curate.encoders.text_config import TextEncoderConfig
from curate.schema import content_digest

if TYPE_CHECKING:
    from curate.encoders.base import Backbone

CLASSES_PER_BATCH = 256


class ConseConfig(BaseModel):
    """The embedded image–text encoder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["conse"] = "conse"
    num_classes: int = Field(10, ge=1, le=1000, description="T of the paper: classes in an image's mean")
    prompt: str = Field("a photo of a {}", pattern=r"\{\}", description="sentence about a class name")
    batch_size: int = Field(32, ge=1, description="images per forward pass")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:<n>")

    def build(self) -> "ConseEncoder":
        return ConseEncoder(self)


class ConseEncoder:
    """Images and texts in MiniLM's 384-d sentence space."""

    name = "conse"

    def __init__(self, config: ConseConfig) -> None:
        self.config = config
        self.backbone: Backbone = EfficientNetBackbone(config.device, config.batch_size)
        self._text = TextEncoder(TextEncoderConfig(device=config.device, batch_size=CLASSES_PER_BATCH))
        self._classifier: tuple[np.ndarray, np.ndarray]  # (1000, 1280), (1000,)
        self._class_embeddings: np.ndarray | None = None  # (1000, d), centered
        self._center: np.ndarray  # (d,)

    def setup(self) -> None:
        """Load both models and embed the class names.

        Raises:
            MissingWeights: embedded weights that were not fetched.
        """
        if self._class_embeddings is not None:
            return
        self.backbone.setup()
        self._classifier = load_classifier(weights.resolve(WEIGHTS))
        self._text.setup()
        embeddings = self._text.embed([self.config.prompt.format(name) for name in class_names()])
        self._center = embeddings.mean(0)
        self._class_embeddings = embeddings - self._center

    @cached_property
    def fingerprint(self) -> str:
        """Names the function: both models' weights, the class names, the prompt and T."""
        parts = (self.backbone.fingerprint, self._text.fingerprint, str(self.config.num_classes), self.config.prompt)
        return content_digest("conse-centered", *parts, *class_names())

    def classify(self, features: np.ndarray) -> np.ndarray:
        """Probabilities of the ImageNet classes: (N, 1280) features to (N, 1000).

        In float64, as in the steps that follow: NumPy's sums are then equal for any number of threads.
        """
        weight, bias = self._classifier
        logits = features.astype(np.float64) @ weight.T + bias
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    def embed_features(self, features: np.ndarray) -> np.ndarray:
        """(N, 1280) features to (N, 384) float32 of unit length."""
        assert self._class_embeddings is not None, "setup() comes first"
        probabilities = self.classify(features)
        top = np.argsort(-probabilities, axis=1, kind="stable")[:, : self.config.num_classes]  # (N, T)
        mean = np.einsum("nt,ntd->nd", np.take_along_axis(probabilities, top, axis=1), self._class_embeddings[top])
        # The paper's 1/Z, one over the sum of the T probabilities, cancels in the scaling to unit length.
        return (mean / np.linalg.norm(mean, axis=1, keepdims=True)).astype(np.float32)

    def embed_images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """N images, (H, W, 3) uint8 RGB, to (N, 384) float32 of unit length."""
        return self.embed_features(self.backbone.features(images))

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """M texts to (M, 384) float32 of unit length."""
        centered = self._text.embed(texts) - self._center
        return centered / np.linalg.norm(centered, axis=-1, keepdims=True)

    def fits(self, text: str) -> bool:
        return self._text.fits(text)


def class_names() -> tuple[str, ...]:
    """The 1000 ImageNet-1k classes in the models' order, as worded for zero-shot use in open_clip (MIT).

    Read from open_clip's file alone: importing the package costs seconds and needs torchvision.
    """
    package = importlib.util.find_spec("open_clip")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'open_clip', which contains ConSE's class names", name="open_clip")
    file = Path(package.submodule_search_locations[0]) / "zero_shot_metadata.py"
    return tuple(runpy.run_path(str(file))["IMAGENET_CLASSNAMES"])
