"""Whether frames show anything: black, empty and blurred ones get a confident caption from every model."""

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

SHORT_SIDE_PX = 160
"""Frames are measured at this size: grain and compression noise of larger ones average out."""


class VisibleConfig(BaseModel):
    """Which frames are worth asking about. A clip is refused where none of those that the model would see is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_contrast: float = Field(4.0, ge=0, description="standard deviation of luma, of 255; 0 lets all through")
    min_sharpness: float = Field(
        0.008,
        ge=0,
        description="variance of the Laplacian of luma over that of luma; blur of 2 % of the height is at 0.001 to "
        "0.005, sharp film at 0.02 and more; 0 lets all through",
    )


def why_nothing_is_seen(frames: np.ndarray, config: VisibleConfig) -> str | None:
    """Why there is nothing to describe in any of the frames (T, H, W, 3), uint8 RGB; None where there is in one."""
    measured = [_measure(frame) for frame in frames]
    contrast = max(contrast for contrast, _, _ in measured)
    if contrast < config.min_contrast:
        luma = max(luma for _, _, luma in measured)
        return (
            f"every frame is of one color (luma {luma:.0f} of 255, contrast {contrast:.1f} < {config.min_contrast:g})"
        )
    sharpness = max(sharp for contrast, sharp, _ in measured if contrast >= config.min_contrast)
    if sharpness < config.min_sharpness:
        return f"every frame is blurred (sharpness {sharpness:.4f} < {config.min_sharpness:g})"
    return None


def _measure(frame: np.ndarray) -> tuple[float, float, float]:
    """Standard deviation of luma, variance of its Laplacian over its variance, and its mean."""
    from PIL import Image

    picture = Image.fromarray(frame).convert("L").convert("F")
    scale = SHORT_SIDE_PX / min(picture.size)
    if scale < 1:
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.BOX)
    luma = np.pad(np.asarray(picture), 1, mode="reflect" if min(picture.size) > 1 else "edge")
    edges = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * luma[1:-1, 1:-1]
    variance = float(luma[1:-1, 1:-1].var())
    return variance**0.5, float(edges.var()) / variance if variance else 0.0, float(luma[1:-1, 1:-1].mean())
