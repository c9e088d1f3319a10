"""Everything is generated: from noise, under the caption and the scalar conditions."""

from typing import TYPE_CHECKING, ClassVar, Literal

from train.data.tasks.base import Canvas, Shown, StoredLoneFrames, TaskSettings

if TYPE_CHECKING:
    import torch


class Unconditional(TaskSettings):
    """No part of the latent is shown to the model."""

    takes: ClassVar[str] = "nothing"
    needs_causal: ClassVar[bool] = False
    lone_frames: ClassVar[StoredLoneFrames] = "none"

    kind: Literal["unconditional"] = "unconditional"

    def draw(self, canvas: Canvas, generator: "torch.Generator") -> Shown | None:
        return None

    def allows(self, canvas: Canvas, shown: Shown) -> bool:
        return not shown.frames and not shown.patches.any()
