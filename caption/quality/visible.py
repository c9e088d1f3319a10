"""Black, uniform and blurred frames: every model describes them with confidence, so it is not asked."""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from caption.quality.base import Check, Remedies
from caption.record import Finding
from curate.dataset.captions import CaptionStatus

SHORT_SIDE_PX = 160
"""Frames are measured at this size: grain and compression noise of larger ones average out."""


class VisibleConfig(BaseModel):
    """Finds clips in which no frame shows anything. One frame that does is enough."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_contrast: float = Field(4.0, ge=0, description="standard deviation of luma, 0 to 255; 0 lets all through")
    min_sharpness: float = Field(
        0.008,
        ge=0,
        description="variance of the Laplacian of luma over that of luma; blur of 2 % of the height gives 0.001 to "
        "0.005, sharp video 0.02 and more; 0 lets all through",
    )

    def build(self) -> Check:
        return VisibleCheck(self)


class VisibleCheck(Check):
    """`no_contrast`, `blurred`: no remedy, every frame of the clip is so."""

    reads: ClassVar = "frames"
    remedies: ClassVar[Remedies] = {"no_contrast": (), "blurred": ()}

    def __init__(self, config: VisibleConfig) -> None:
        self.config = config

    def of_frames(self, frames: np.ndarray) -> Iterator[Finding]:
        measured = [_measure(frame) for frame in frames]
        contrast = max(contrast for contrast, _, _ in measured)
        if contrast < self.config.min_contrast:
            luma = max(luma for _, _, luma in measured)
            figures = f"luma {luma:.0f} of 255, contrast {contrast:.1f} < {self.config.min_contrast:g}"
            detail = f"every frame is of one color ({figures})"
            yield Finding(code="no_contrast", status=CaptionStatus.BLANK, detail=detail)
            return
        sharpness = max(sharp for contrast, sharp, _ in measured if contrast >= self.config.min_contrast)
        if sharpness < self.config.min_sharpness:
            detail = f"every frame is blurred (sharpness {sharpness:.4f} < {self.config.min_sharpness:g})"
            yield Finding(code="blurred", status=CaptionStatus.BLANK, detail=detail)


def _measure(frame: np.ndarray) -> tuple[float, float, float]:
    """Standard deviation of luma, variance of its Laplacian over its variance, and its mean."""
    from PIL import Image

    image = Image.fromarray(frame).convert("L").convert("F")
    scale = SHORT_SIDE_PX / min(image.size)
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.BOX)
    luma = np.pad(np.asarray(image), 1, mode="reflect" if min(image.size) > 1 else "edge")
    edges = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * luma[1:-1, 1:-1]
    variance = float(luma[1:-1, 1:-1].var())
    return variance**0.5, float(edges.var()) / variance if variance else 0.0, float(luma[1:-1, 1:-1].mean())
