"""A part of each frame is kept, the other is made new: a box, what surrounds a box, or a region of any form.

Boxes and free forms as for pictures (Saharia et al. 2022, "Palette", §3.2), the same in all frames or moving evenly.
"""

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from train.data.tasks.base import Canvas, Shown, StoredLoneFrames, TaskSettings, uniform

if TYPE_CHECKING:
    import torch

NUM_CORNERS = 8
"""Boxes that make up a free form."""


class Inpainting(TaskSettings):
    """Each form a third of the draws; half of the boxes move."""

    takes: ClassVar[str] = "--video with --mask"
    needs_causal: ClassVar[bool] = False
    lone_frames: ClassVar[StoredLoneFrames] = "none"

    kind: Literal["inpainting"] = "inpainting"
    min_side: float = Field(0.25, gt=0, le=1, description="least side of a box, as a share of the frame's")
    max_side: float = Field(0.75, gt=0, le=1, description="largest side of a box, as a share of the frame's")

    @model_validator(mode="after")
    def _sides_are_in_order(self) -> "Inpainting":
        if self.min_side > self.max_side:
            raise ValueError(f"got min_side {self.min_side:g} above max_side {self.max_side:g}; exchange them")
        return self

    def draw(self, canvas: Canvas, generator: "torch.Generator") -> Shown | None:
        form, *sides = uniform(generator, 3)
        places = np.array(uniform(generator, 2 * NUM_CORNERS)).reshape(-1, 2)
        _, h, w = canvas.grid
        if h * w == 1:
            return None
        shares = self.min_side + (self.max_side - self.min_side) * np.array(sides)
        if form < 2 / 3:
            moves = places[2, 0] < 0.5
            box = self._box(canvas, shares, places[0], places[1] if moves else places[0])
            return Shown(patches=_with_both(box if form < 1 / 3 else ~box))
        parts = [self._box(canvas, shares / 2, place, place) for place in places]
        return Shown(patches=_with_both(~np.any(parts, axis=0)))

    def allows(self, canvas: Canvas, shown: Shown) -> bool:
        has_some = bool(shown.patches.any(axis=(1, 2)).all())
        return has_some and not shown.frames and not shown.patches.all()

    def _box(self, canvas: Canvas, shares: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        """(t, h, w) bool: a box of these sides, which moves evenly from one place to another, (2,) each."""
        t, *frame = canvas.grid
        sides = np.clip(np.round(shares * frame), 1, frame)
        places = np.linspace(first, last, t)  # (t, 2)
        starts = np.floor(places * (np.array(frame) - sides + 1))  # (t, 2)
        rows, columns = (
            (np.arange(n) >= start[:, None]) & (np.arange(n) < start[:, None] + side)
            for n, start, side in zip(frame, starts.T, sides, strict=True)
        )
        return rows[:, :, None] & columns[:, None, :]


def _with_both(kept: np.ndarray) -> np.ndarray:
    """(t, h, w) bool with one patch of each frame kept, and one made new, at least."""
    kept = kept.copy()
    flat = kept.reshape(len(kept), -1)
    flat[flat.all(axis=1), -1] = False
    flat[~flat.any(axis=1), 0] = True
    return kept
