"""Image-to-video as Wan has it: the model is shown a video that is gray but for its first frame, or both ends.

The autoencoder's latent of that video comes in beside the noisy one, with a mask of the frames that are given (Wan
Team 2025, "Wan: Open and Advanced Large-Scale Video Generative Models", §5.1). Every frame is generated.
"""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from train.data.tasks.base import Canvas, GrayVideo, Shown, StoredLoneFrames, TaskSettings

if TYPE_CHECKING:
    import torch


class GrayVideoTask(TaskSettings):
    """The given frames, each in its place; an image is generated as a whole."""

    needs_causal: ClassVar[bool] = False
    lone_frames: ClassVar[StoredLoneFrames] = "none"

    kind: Literal["gray_video"] = "gray_video"
    frames: GrayVideo = Field(
        "first",
        description="frames that are given; the others are gray. They need encode.gray, and a model with "
        "shown_channels: as many as the latent has and one for each frame of a temporal stride",
    )

    @property
    def takes(self) -> str:
        return "--start" if self.frames == "first" else "--start with --end"

    @property
    def gray(self) -> GrayVideo:
        return self.frames

    def draw(self, canvas: Canvas, generator: "torch.Generator") -> Shown | None:
        return Shown(patches=canvas.nothing, gray=self.frames) if canvas.num_frames > 1 else None

    def allows(self, canvas: Canvas, shown: Shown) -> bool:
        return canvas.num_frames > 1 and not shown.frames and not shown.patches.any()
