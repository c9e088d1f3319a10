"""Pictures at any latent frames are shown, what connects them is generated."""

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from train.data.tasks.base import Canvas, Shown, StoredLoneFrames, TaskSettings, uniform, up_to

if TYPE_CHECKING:
    import torch


class KeyFrames(TaskSettings):
    """Pictures at places that are drawn uniformly, the first frame among them."""

    takes: ClassVar[str] = "--keys"
    needs_causal: ClassVar[bool] = True
    lone_frames: ClassVar[StoredLoneFrames] = "all"

    kind: Literal["key_frames"] = "key_frames"
    max_frames: int = Field(
        4, ge=1, description="pictures that are shown: 1 to this number; they need encode.lone_frames=all"
    )

    def draw(self, canvas: Canvas, generator: "torch.Generator") -> Shown | None:
        number = up_to(self._limit(canvas), generator)
        places = np.argsort(uniform(generator, canvas.num_frames))[:number]
        return Shown(patches=canvas.nothing, frames=tuple(sorted(places.tolist()))) if number else None

    def allows(self, canvas: Canvas, shown: Shown) -> bool:
        return not shown.patches.any() and 1 <= len(shown.frames) <= self._limit(canvas)

    def _limit(self, canvas: Canvas) -> int:
        return min(self.max_frames, canvas.num_frames) if canvas.num_frames > 1 else 0
