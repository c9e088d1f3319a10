"""Color grid: a picture is the colors of its 4 x 4 parts. An image encoder without weights."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from curate.schema import content_digest

SIDE = 4


class ColorGridConfig(BaseModel):
    """What of it can be set does not change the embeddings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["color_grid"] = "color_grid"
    batch_size: int = Field(32, ge=1, description="images per forward pass")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:<n>")

    def build(self) -> "ColorGridEncoder":
        return ColorGridEncoder()


class ColorGridBackbone:
    """Pixels to features: what several encoders can share."""

    fingerprint = content_digest("color-grid", "1")  # of the weights, where there are any
    on_gpu = False

    def setup(self) -> None:
        """There is nothing to load."""

    def features(self, images: Sequence[np.ndarray]) -> np.ndarray:
        import cv2

        small = [cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for image in images]
        return np.stack(small).reshape(len(images), -1).astype(np.float32)


class ColorGridEncoder:
    """Features to embeddings of unit length."""

    def __init__(self) -> None:
        self.backbone = ColorGridBackbone()

    @property
    def fingerprint(self) -> str:
        return self.backbone.fingerprint

    def setup(self) -> None:
        self.backbone.setup()

    def embed_features(self, features: np.ndarray) -> np.ndarray:
        shifted = features + 1  # black has a direction, too
        return shifted / np.linalg.norm(shifted, axis=1, keepdims=True)
