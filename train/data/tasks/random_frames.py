"""Some frames of a video are kept, the others are made new: gaps are filled, and a scene is played otherwise.

Any frames may be kept, as in flexible diffusion modeling (Harvey et al. 2022, §3.2).
"""

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from train.data.tasks.base import Canvas, Shown, StoredLoneFrames, TaskSettings, uniform, up_to

if TYPE_CHECKING:
    import torch


class RandomFrames(TaskSettings):
    """Whole patches along time, one to all but one, at places that are drawn uniformly."""

    takes: ClassVar[str] = "--video with a --mask of whole frames"
    needs_causal: ClassVar[bool] = False
    lone_frames: ClassVar[StoredLoneFrames] = "none"

    kind: Literal["random_frames"] = "random_frames"

    def draw(self, canvas: Canvas, generator: "torch.Generator") -> Shown | None:
        t, h, w = canvas.grid
        number = up_to(t - 1, generator)
        is_kept = np.argsort(np.argsort(uniform(generator, t))) < number
        return Shown(patches=np.broadcast_to(is_kept[:, None, None], (t, h, w))) if number else None

    def allows(self, canvas: Canvas, shown: Shown) -> bool:
        is_whole = np.array_equal(shown.patches.any(axis=(1, 2)), shown.patches.all(axis=(1, 2)))
        return is_whole and not shown.frames and 0 < shown.patches.sum() < shown.patches.size
