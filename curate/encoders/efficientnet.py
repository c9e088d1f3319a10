"""EfficientNet-Lite0 as an image encoder: the pooled features of an ImageNet classifier. Embedded.

Features of supervised classifiers are serviceable for near-duplicates and rough concepts; docs/decisions/scores.md has
figures. For more use open_clip.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from curate.device import pick_device
from curate.encoders import weights
from curate.encoders.batches import in_batches
from curate.encoders.efficientnet_lite import load_efficientnet_lite0, normalize
from curate.encoders.fingerprint import path_digest
from curate.encoders.resize import near_square, resized
from curate.schema import content_digest

if TYPE_CHECKING:
    import torch

    from curate.encoders.base import Backbone

WEIGHTS = "efficientnet-lite0"
CPU_BATCH = 2
"""Images per forward pass on a CPU, at most: the layers of more do not fit into its caches, and take pages from the
operating system each time. Two take 0.6 times the time per image of eight."""
PATCH_SIDE_PX, STRIDE_PX = 256, 32
"""The side of a square of the area that an image is scaled to for its last map, and that of a cell of the map."""


class EfficientNetConfig(BaseModel):
    """The embedded image encoder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["efficientnet_lite0"] = "efficientnet_lite0"
    batch_size: int = Field(32, ge=1, description="images per forward pass")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:<n>")

    def build(self) -> "EfficientNetEncoder":
        return EfficientNetEncoder(self)


class EfficientNetEncoder:
    """Pooled features, scaled to unit length: (N, 1280)."""

    def __init__(self, config: EfficientNetConfig) -> None:
        self.backbone: Backbone = EfficientNetBackbone(config.device, config.batch_size)

    @cached_property
    def fingerprint(self) -> str:
        return content_digest("pooled", self.backbone.fingerprint)

    def setup(self) -> None:
        """Load the weights.

        Raises:
            MissingWeights: embedded weights that were not fetched.
        """
        self.backbone.setup()

    def embed_features(self, features: np.ndarray) -> np.ndarray:
        """(N, 1280) features to (N, 1280) float32 of unit length."""
        return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), np.finfo(np.float32).tiny)

    def patch_features(self, images: np.ndarray) -> np.ndarray:
        """(N, H, W, 3) uint8 RGB to the last map (N, 1280, h, w) float32, of images of about 256² px."""
        backbone: EfficientNetBackbone = self.backbone  # type: ignore[assignment]  # or one of equal fingerprint
        return backbone.maps(images)


class EfficientNetBackbone:
    """The network up to its classifier: features are its last map, averaged over the image."""

    def __init__(self, device: str, batch_size: int) -> None:
        self._device_name = device
        self._batch_size = batch_size
        self._model: Any = None
        self._device: torch.device

    @cached_property
    def fingerprint(self) -> str:
        return path_digest(weights.resolve(WEIGHTS))

    @property
    def on_gpu(self) -> bool:
        return self._device.type != "cpu"

    def setup(self) -> None:
        if self._model is None:
            self._device = pick_device(self._device_name)
            self._model = load_efficientnet_lite0(weights.resolve(WEIGHTS)).to(self._device)

    def features(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """N images, (H, W, 3) uint8 RGB, to (N, 1280) float32."""
        import torch

        def pooled(batch: Sequence[np.ndarray]) -> np.ndarray:
            with torch.inference_mode():
                pixels = torch.cat([normalize(image[None]) for image in batch]).to(self._device)
                return self._model.forward_head(self._model.forward_features(pixels), pre_logits=True).cpu().numpy()

        return in_batches(pooled, images, self._num_together)

    def maps(self, images: np.ndarray) -> np.ndarray:
        """See `EfficientNetEncoder.patch_features`."""
        import torch

        size = near_square(images.shape[1:3], PATCH_SIDE_PX, STRIDE_PX)

        def last_map(batch: np.ndarray) -> np.ndarray:
            pixels = (resized(batch, size) - 127) / 128
            with torch.inference_mode():
                return self._model.forward_features(pixels.to(self._device)).cpu().numpy()

        return in_batches(last_map, images, self._num_together)

    @property
    def _num_together(self) -> int:
        return self._batch_size if self.on_gpu else min(self._batch_size, CPU_BATCH)
