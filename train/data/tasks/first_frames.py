"""Image-to-video and extension: the first frames are shown, the rest is generated.

One frame or several, as W.A.L.T (Gupta et al. 2023, §3.4) predicts frames.
"""

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from train.data.tasks.base import Canvas, Shown, StoredLoneFrames, TaskSettings, up_to

if TYPE_CHECKING:
    import torch


class FirstFrames(TaskSettings):
    """Whole patches along time at the start of a video; an image is generated as a whole."""

    takes: ClassVar[str] = "--start"
    needs_causal: ClassVar[bool] = True
    lone_frames: ClassVar[StoredLoneFrames] = "none"

    kind: Literal["first_frames"] = "first_frames"
    max_frames: int = Field(
        2, ge=1, description="patches along time that are shown: 1 to this number, at most half of the video"
    )

    def draw(self, canvas: Canvas, generator: "torch.Generator") -> Shown | None:
        number = up_to(self._limit(canvas), generator)
        return Shown(patches=canvas.first(number)) if number else None

    def allows(self, canvas: Canvas, shown: Shown) -> bool:
        number = int(shown.patches.any(axis=(1, 2)).sum())
        is_start = np.array_equal(shown.patches, canvas.first(number))
        return is_start and not shown.frames and 1 <= number <= self._limit(canvas)

    def _limit(self, canvas: Canvas) -> int:
        return min(self.max_frames, canvas.grid[0] // 2)
