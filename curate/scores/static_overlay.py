"""Static overlay: logos, watermarks and captions that stand still on a moving video.

Edges of an overlay keep their gradient from frame to frame over a moving background: the idea of Dekel et al. 2017,
"On the Effectiveness of Visible Watermarks" (CVPR, section 3.1), here within one clip. Edges count only where
their surroundings move: the background of a static camera and the edges of letterbox bars do not count.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from curate.encoders.base import EncoderPool
from curate.rules import Column
from curate.schema import content_digest
from curate.scores.base import Value
from curate.scores.frames import ClipFrames

MIN_FRAMES = 3
MIN_GRADIENT = 12.0
"""Luma steps per pixel, of 255, that make an edge."""
MAX_DEVIATION = 0.4
"""Largest difference of a static edge from its mean gradient in any frame, as a share of the mean."""
MOVING_DEVIATION = 6.0
"""Standard deviation over the frames, in luma steps, from which a pixel moves."""
MIN_EDGE_PX = 8
"""Smaller specks are chance."""


class StaticOverlayConfig(BaseModel):
    """What counts as an overlay."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["static_overlay"] = "static_overlay"
    columns: ClassVar[Mapping[str, Column]] = {
        "static_overlay": Column(
            description="share of the frame under static overlays: logos, watermarks", range=(0, 1)
        )
    }
    min_moving: float = Field(0.75, ge=0.5, le=1, description="share of the surroundings that must move")
    surroundings: float = Field(0.33, gt=0, le=1, description="side of the square around an edge, in shorter sides")

    def build(self) -> "StaticOverlayScorer":
        return StaticOverlayScorer(self)


class StaticOverlayScorer:
    """`static_overlay`: share of the frame's area under things that stand still while their surroundings move.

    0 where it cannot be measured: fewer than three frames (a still image), or a shot in which little moves. A fence in
    front of running water looks like an overlay.
    """

    def __init__(self, config: StaticOverlayConfig) -> None:
        self.config = config

    @property
    def key(self) -> str:
        return content_digest(self.config.kind, str(self.config.min_moving), str(self.config.surroundings))

    def setup(self, encoders: EncoderPool) -> None:
        """There is nothing to load."""

    def score(self, clips: Sequence[ClipFrames]) -> list[dict[str, Value]]:
        return [{"static_overlay": float(self._mask(clip.gray).mean())} for clip in clips]

    def _mask(self, gray: np.ndarray) -> np.ndarray:
        """(T, H, W) uint8 luma to (H, W) uint8, 1 under overlays."""
        import cv2

        if len(gray) < MIN_FRAMES:
            return np.zeros(gray.shape[1:], np.uint8)
        side = round(self.config.surroundings * min(gray.shape[1:])) | 1
        moving = (gray.std(axis=0, dtype=np.float32) > MOVING_DEVIATION).astype(np.float32)
        around = cv2.blur(moving, (side, side), borderType=cv2.BORDER_REFLECT)
        edges = (standing_edges(gray) & (around >= self.config.min_moving)).astype(np.uint8)
        gap = round(min(gray.shape[1:]) / 32) | 1
        joined = cv2.morphologyEx(edges, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_RECT, (gap, gap)))
        num_parts, parts = cv2.connectedComponents(joined)
        is_real = np.bincount(parts[edges > 0], minlength=num_parts) >= MIN_EDGE_PX
        is_real[0] = False  # the background
        return is_real[parts].astype(np.uint8)


def standing_edges(gray: np.ndarray) -> np.ndarray:
    """(T, H, W) luma to (H, W) bool: edges whose gradient is much the same in every frame."""
    import cv2

    gradients = [np.stack([cv2.Sobel(frame, cv2.CV_32F, dx, 1 - dx, scale=1 / 8) for dx in (0, 1)]) for frame in gray]
    mean = sum(gradients[1:], start=gradients[0]) / np.float32(len(gradients))  # (2, H, W)
    furthest = np.zeros(gray.shape[1:], np.float32)  # squared distance from the mean
    for each in gradients:  # one at a time, because they fit into a cache, and all of them do not
        np.maximum(furthest, np.square(each - mean).sum(axis=0), out=furthest)
    strength = np.linalg.norm(mean, axis=0)
    return (strength >= MIN_GRADIENT) & (np.sqrt(furthest) <= MAX_DEVIATION * strength)
