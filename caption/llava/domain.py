"""Whether a clip looks like the video that the embedded captioner knows. Where it does not, nothing is written.

The measure is a distance between images, not the model's own confidence: the model is as confident of "A big gray
rabbit." in front of a lectern as in front of the rabbit. docs/models/reelpack_llava.md says what the check lets
through; `calibrate.py` makes the file.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from caption.quality.base import Check, Remedies
from caption.record import Finding
from curate.dataset.captions import CaptionStatus

STATISTICS = Path(__file__).parent / "domain.safetensors"
"""`shots` (N, 1280) float16, one per training shot and per coarse copy; `max_distance` in the metadata."""

NUM_NEAREST = 3


class DomainCheck(Check):
    """Finds clips that do not look like the training video, in the vision tower's features.

    Args:
        tower: the embedded captioner's.
        image_processor: of its processor.
        dtype: in which the captioner gets its images: it remembers what it has seen here.
    """

    reads: ClassVar = "frames"
    remedies: ClassVar[Remedies] = {"out_of_domain": ()}

    def __init__(self, tower: Any, image_processor: Any, dtype: torch.dtype) -> None:
        from safetensors import safe_open

        self._tower, self._image_processor, self._dtype = tower, image_processor, dtype
        with safe_open(STATISTICS, framework="pt") as file:
            self._shots = torch.nn.functional.normalize(file.get_tensor("shots").float(), dim=1)
            self.max_distance = float(file.metadata()["max_distance"])

    def of_frames(self, frames: np.ndarray) -> Iterator[Finding]:
        found = distance(clip_feature(self._tower, self._image_processor, frames, self._dtype), self._shots)
        if found > self.max_distance:
            figures = f"distance {found:.2f} > {self.max_distance:.2f}"
            detail = f"it does not look like the video that the captioner knows ({figures})"
            yield Finding(code="out_of_domain", status=CaptionStatus.UNSURE, detail=detail)


def clip_feature(
    tower: Any, image_processor: Any, frames: Sequence[np.ndarray] | np.ndarray, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """(1280,) float32: the tower's global token, not standardized, mean over the frames, of pixels in `dtype`."""
    pixels = image_processor(list(frames), return_tensors="pt")["pixel_values"].to(tower.channel_mean.device)
    with torch.inference_mode():
        return tower.remembered(pixels.to(dtype).to(tower.channel_mean.dtype))[:, 0].float().mean(0).cpu()


def distance(feature: torch.Tensor, shots: torch.Tensor) -> float:
    """1 - mean cosine to the nearest `NUM_NEAREST` shots (N, 1280) of unit length: 0 to 1 (features are positive)."""
    similarity = shots @ torch.nn.functional.normalize(feature, dim=0)
    return 1 - float(similarity.topk(NUM_NEAREST).values.mean())
