"""Text area: the share of the frame under text, by PP-OCR's detector. The text is not read.

Detector: PP-OCRv6 (small). Its map becomes boxes as in Liao et al. 2020, "Real-time Scene Text Detection with
Differentiable Binarization" (arXiv:1911.08947), section 3.4, with the thresholds that RapidOCR ships.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from curate.encoders.base import EncoderPool
from curate.encoders.onnx import OnnxModel
from curate.rules import Column
from curate.schema import content_digest
from curate.scores.base import Value
from curate.scores.frames import ClipFrames

WEIGHTS = "pp-ocrv6-det-small"
STRIDE_PX = 32
"""The network takes multiples of it."""
PIXEL_THRESHOLD, BOX_THRESHOLD, UNCLIP_RATIO, MIN_BOX_PX = 0.3, 0.5, 1.6, 3


class TextAreaConfig(BaseModel):
    """The frames that are searched, and the largest height of a line of text."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["text_area"] = "text_area"
    columns: ClassVar[Mapping[str, Column]] = {
        "text_area": Column(description="share of the frame under text, mean over the frames", range=(0, 1)),
        "text_area_max": Column(description="share of the frame under text, of the frame with most", range=(0, 1)),
    }
    num_frames: int = Field(
        3, ge=1, description="of the sampled frames, how many are searched; text stays, and the detector is slow"
    )
    max_line: float = Field(
        0.3, gt=0, description="boxes higher than this share of the shorter side are not lines of text"
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:<n>; a GPU needs onnxruntime-gpu")

    def build(self) -> "TextAreaScorer":
        return TextAreaScorer(self)


class TextAreaScorer:
    """Share of the frame's area that text boxes cover, 0 to 1.

    - `text_area`: mean over the frames; `text_area_max`: of the frame that has most.

    Frames are taken as sampled: of 256 px, letters of 4 % of the height and more are found, smaller ones hardly ever.
    """

    def __init__(self, config: TextAreaConfig) -> None:
        self.config = config
        self._model = OnnxModel(WEIGHTS, config.device)

    @cached_property
    def key(self) -> str:
        return content_digest(
            self.config.kind, self._model.fingerprint, str(self.config.num_frames), str(self.config.max_line)
        )

    def setup(self, encoders: EncoderPool) -> None:
        """Load the detector."""
        self._model.setup()

    def score(self, clips: Sequence[ClipFrames]) -> list[dict[str, Value]]:
        return [self._score(clip) for clip in clips]  # a batch has one image size: that of a clip

    def _score(self, clip: ClipFrames) -> dict[str, Value]:
        images = np.stack([_input(clip.rgb[index]) for index in clip.spread(self.config.num_frames)])
        areas = [text_mask(found[0], self.config.max_line).mean() for found in self._model(images)]
        return {"text_area": float(np.mean(areas)), "text_area_max": float(np.max(areas))}


def _input(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB to (3, H', W') float32 BGR in [-1, 1], sides rounded to multiples of 32."""
    import cv2

    height, width = (max(STRIDE_PX, round(side / STRIDE_PX) * STRIDE_PX) for side in image.shape[:2])
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    bgr = cv2.cvtColor(resized, cv2.COLOR_RGB2BGR)
    return (bgr / np.float32(127.5) - 1).transpose(2, 0, 1)


def text_mask(likely: np.ndarray, max_line: float) -> np.ndarray:
    """(H, W) probabilities of the shrunk text kernels to a (H, W) uint8 mask, 1 under the boxes of lines of text.

    As RapidOCR has it: connected pixels above a threshold, their smallest rotated rectangle, kept if it is likely on
    average, and grown by what training shrank it (equation 10 of the paper).
    """
    import cv2

    mask = np.zeros(likely.shape, np.uint8)
    outlines, _ = cv2.findContours((likely > PIXEL_THRESHOLD).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    for outline in outlines:
        center, (a, b), angle = cv2.minAreaRect(outline)
        if min(a, b) < MIN_BOX_PX or _mean_inside(likely, (center, (a, b), angle)) < BOX_THRESHOLD:
            continue
        margin = a * b * UNCLIP_RATIO / (2 * (a + b))  # area × ratio / perimeter, on each side
        if min(a, b) + 2 * margin <= max_line * min(likely.shape):
            _fill(mask, (center, (a + 2 * margin, b + 2 * margin), angle))
    return mask


Box = tuple[Sequence[float], Sequence[float], float]
"""OpenCV's rotated rectangle: center, sides, angle."""


def _mean_inside(likely: np.ndarray, box: Box) -> float:
    import cv2

    inside = np.zeros(likely.shape, np.uint8)
    _fill(inside, box)
    return cv2.mean(likely, inside)[0]


def _fill(mask: np.ndarray, box: Box) -> None:
    import cv2

    cv2.fillPoly(mask, [cv2.boxPoints(box).astype(np.int32)], (1,))
