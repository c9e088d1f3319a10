"""Whether a clip looks like the video that the embedded captioner knows. Where it does not, nothing is written.

The measure is a distance between images, not the model's own confidence: the model is as confident of "A big gray
rabbit." in front of a lectern as in front of the rabbit. docs/models/reelpack_llava.md says what the check lets
through; `calibrate.py` makes the file.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from caption.llava.by_frames import ByFrames
from caption.quality.base import Check, Remedies
from caption.record import Finding
from curate.dataset.captions import CaptionStatus

STATISTICS = Path(__file__).parent / "domain.safetensors"
"""`shots` (N, 1280) float16, one per training shot and per coarse copy; `max_distance` in the metadata."""

NUM_NEAREST = 3


class DomainCheck(Check):
    """Finds clips that do not look like the training video, in the vision tower's features.

    Args:
        pooled: of frames, the tower's averages (T, tokens, 1280).
    """

    reads: ClassVar = "frames"
    remedies: ClassVar[Remedies] = {"out_of_domain": ()}

    def __init__(self, pooled: ByFrames[torch.Tensor]) -> None:
        from safetensors import safe_open

        self._pooled = pooled
        with safe_open(STATISTICS, framework="pt") as file:
            self._shots = torch.nn.functional.normalize(file.get_tensor("shots").float(), dim=1)
            self.max_distance = float(file.metadata()["max_distance"])

    def of_frames(self, frames: np.ndarray) -> Iterator[Finding]:
        (pooled,) = self._pooled.of([frames])
        found = distance(clip_feature(pooled), self._shots)
        if found > self.max_distance:
            figures = f"distance {found:.2f} > {self.max_distance:.2f}"
            detail = f"it does not look like the video that the captioner knows ({figures})"
            yield Finding(code="out_of_domain", status=CaptionStatus.UNSURE, detail=detail)


def clip_feature(pooled: torch.Tensor) -> torch.Tensor:
    """(T, tokens, 1280) averages of a clip's frames to (1280,): the mean of their global tokens."""
    return pooled[:, 0].mean(0).cpu()


def distance(feature: torch.Tensor, shots: torch.Tensor) -> float:
    """1 - mean cosine to the nearest `NUM_NEAREST` shots (N, 1280) of unit length: 0 to 1 (features are positive)."""
    similarity = shots @ torch.nn.functional.normalize(feature, dim=0)
    return 1 - float(similarity.topk(NUM_NEAREST).values.mean())
