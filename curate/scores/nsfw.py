"""NSFW: how likely a clip shows pornography, by Yahoo's open_nsfw.

Mahadeokar and Pesavento 2016, "Open sourcing a deep learning solution for detecting NSFW images": a thin ResNet-50,
fine-tuned on images labelled by people. It is made for photographs: drawn animals get high scores
(docs/models/open_nsfw.md).
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from curate.encoders.base import EncoderPool
from curate.encoders.batches import in_batches
from curate.encoders.onnx import OnnxModel
from curate.rules import Column
from curate.schema import content_digest
from curate.scores.base import Value
from curate.scores.frames import ClipFrames, by_clip

WEIGHTS = "open-nsfw"
RESIZE_PX, CROP_PX = 256, 224
MEAN_BGR = (104, 117, 123)


class NsfwConfig(BaseModel):
    """Settings of speed alone: none changes a value."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["nsfw"] = "nsfw"
    columns: ClassVar[Mapping[str, Column]] = {
        "nsfw": Column(description="probability of pornography, highest of any frame", range=(0, 1))
    }
    batch_size: int = Field(32, ge=1, description="frames per forward pass")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:<n>; a GPU needs onnxruntime-gpu")

    def build(self) -> "NsfwScorer":
        return NsfwScorer(self)


class NsfwScorer:
    """`nsfw`: the highest probability of any sampled frame, 0 to 1. Its authors call less than 0.2 safe, more than 0.8
    certain."""

    def __init__(self, config: NsfwConfig) -> None:
        self.config = config
        self._model = OnnxModel(WEIGHTS, config.device)

    @cached_property
    def key(self) -> str:
        return content_digest(self.config.kind, self._model.fingerprint)

    def setup(self, encoders: EncoderPool) -> None:
        """Load the weights."""
        self._model.setup()

    def score(self, clips: Sequence[ClipFrames]) -> list[dict[str, Value]]:
        found = by_clip(self._probabilities, [list(clip.rgb) for clip in clips], joined=self._model.on_gpu)
        return [{"nsfw": float(probabilities.max())} for probabilities in found]

    def _probabilities(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """N images to (N,)."""

        def run(batch: Sequence[np.ndarray]) -> np.ndarray:
            return self._model(np.stack([_input(image) for image in batch]))[:, 1]

        return in_batches(run, images, self.config.batch_size)


def _input(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB to (224, 224, 3) float32: squeezed to 256 px, central crop, BGR minus the mean.

    As in the authors' reference, without its round of JPEG compression, whose bytes differ between libraries.
    """
    import cv2
    from PIL import Image

    square = Image.fromarray(image).resize((RESIZE_PX, RESIZE_PX), Image.Resampling.BILINEAR)
    edge = (RESIZE_PX - CROP_PX) // 2
    cropped = cv2.cvtColor(np.asarray(square)[edge:-edge, edge:-edge], cv2.COLOR_RGB2BGR)
    return cv2.subtract(cropped, np.array([*MEAN_BGR, 0.0]), dtype=cv2.CV_32F)
