"""A generation task that the project does not have: the frame in the middle is shown, the rest is generated."""

from typing import TYPE_CHECKING, ClassVar, Literal

from train.data.tasks.base import Canvas, Shown, StoredLoneFrames, TaskSettings

if TYPE_CHECKING:
    import torch


class MiddleFrame(TaskSettings):
    """The last frame of the middle latent frame."""

    takes: ClassVar[str] = "--keys, one in the middle"
    needs_causal: ClassVar[bool] = False
    lone_frames: ClassVar[StoredLoneFrames] = "all"

    kind: Literal["middle_frame"] = "middle_frame"

    def draw(self, canvas: Canvas, generator: "torch.Generator") -> Shown | None:
        middle = canvas.num_frames // 2
        return Shown(patches=canvas.nothing, frames=(middle,)) if middle else None

    def allows(self, canvas: Canvas, shown: Shown) -> bool:
        return shown.frames == (canvas.num_frames // 2,) and not shown.patches.any()
