"""Whether a clip looks like the film that the embedded captioner knows. Where it does not, nothing is written.

The measure is a distance between pictures, not the model's own confidence: it is as sure of "A big gray rabbit."
before a lectern as before the rabbit. docs/models/reelpack_llava.md has what it lets through; `calibrate.py` made the
file.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

STATISTICS = Path(__file__).parent / "domain.safetensors"
"""`shots` (N, 1280) float16, one per shot of the training film and per coarse copy; `max_distance` in its metadata."""

NUM_NEAREST = 3


class Domain:
    """The training film in the vision tower's features.

    Args:
        tower: the embedded captioner's.
        image_processor: of its processor.
    """

    def __init__(self, tower: Any, image_processor: Any) -> None:
        from safetensors import safe_open

        self._tower, self._image_processor = tower, image_processor
        with safe_open(STATISTICS, framework="pt") as file:
            self._shots = torch.nn.functional.normalize(file.get_tensor("shots").float(), dim=1)
            self.max_distance = float(file.metadata()["max_distance"])

    def unsure(self, frames: np.ndarray) -> str | None:
        """Why the captioner would not know what the frames (T, H, W, 3) show; None where they look like its film."""
        found = distance(clip_feature(self._tower, self._image_processor, frames), self._shots)
        if found <= self.max_distance:
            return None
        return (
            f"it does not look like the film that the captioner knows (distance {found:.2f} > {self.max_distance:.2f})"
        )


def clip_feature(tower: Any, image_processor: Any, frames: Sequence[np.ndarray] | np.ndarray) -> torch.Tensor:
    """(1280,) float32: the tower's global token, not standardized, mean over the frames."""
    pixels = image_processor(list(frames), return_tensors="pt")["pixel_values"].to(tower.channel_mean.device)
    with torch.inference_mode():
        return tower.pool(pixels)[:, 0].float().mean(0).cpu()


def distance(feature: torch.Tensor, shots: torch.Tensor) -> float:
    """1 - mean cosine to the nearest `NUM_NEAREST` shots (N, 1280) of unit length: 0 to 1 (features are positive)."""
    similarity = shots @ torch.nn.functional.normalize(feature, dim=0)
    return 1 - float(similarity.topk(NUM_NEAREST).values.mean())
