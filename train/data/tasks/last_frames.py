"""The last frames are shown as pictures, what leads to them is generated: a video that ends in a picture, or, with
several, backward extension of a clip."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from train.data.tasks.base import Canvas, Shown, StoredLoneFrames, TaskSettings, up_to

if TYPE_CHECKING:
    import torch


class LastFrames(TaskSettings):
    """The last frame of each of the last latent frames."""

    takes: ClassVar[str] = "--end"
    needs_causal: ClassVar[bool] = False

    kind: Literal["last_frames"] = "last_frames"
    max_frames: int = Field(
        1,
        ge=1,
        description="pictures that are shown, a temporal stride apart: 1 to this number, at most half of the latent "
        "frames; 1 needs encode.lone_frames=last, more need all",
    )

    @property
    def lone_frames(self) -> StoredLoneFrames:
        return "last" if self.max_frames == 1 else "all"

    def draw(self, canvas: Canvas, generator: "torch.Generator") -> Shown | None:
        number = up_to(self._limit(canvas), generator)
        return Shown(patches=canvas.nothing, frames=canvas.last_frames(number)) if number else None

    def allows(self, canvas: Canvas, shown: Shown) -> bool:
        number = len(shown.frames)
        is_end = shown.frames == canvas.last_frames(number) and not shown.patches.any()
        return is_end and 1 <= number <= self._limit(canvas)

    def _limit(self, canvas: Canvas) -> int:
        return min(self.max_frames, canvas.num_frames // 2)
