"""Interpolation: the first frames and the last are shown, what connects them is generated.

Two pictures, or two clips, as Sora connects videos (Brooks et al. 2024, "Video generation models as world
simulators"). A loop is an end that is the start.
"""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from train.data.tasks.base import Canvas, Shown, StoredLoneFrames, TaskSettings
from train.data.tasks.first_frames import FirstFrames
from train.data.tasks.last_frames import LastFrames

if TYPE_CHECKING:
    import torch


class BothEnds(TaskSettings):
    """The start as of `first_frames`, and the end as of `last_frames`."""

    takes: ClassVar[str] = "--start with --end, or with --loop"
    needs_causal: ClassVar[bool] = True

    kind: Literal["both_ends"] = "both_ends"
    max_first_frames: int = Field(
        1, ge=1, description="patches along time that are shown of the start: 1 to this number, at most half"
    )
    max_last_frames: int = Field(
        1,
        ge=1,
        description="pictures that are shown of the end: 1 to this number, at most half of the latent frames; 1 needs "
        "encode.lone_frames=last, more need all",
    )

    @property
    def lone_frames(self) -> StoredLoneFrames:
        return self._last.lone_frames

    def draw(self, canvas: Canvas, generator: "torch.Generator") -> Shown | None:
        first, last = self._first.draw(canvas, generator), self._last.draw(canvas, generator)
        return first and last and Shown(patches=first.patches, frames=last.frames)

    def allows(self, canvas: Canvas, shown: Shown) -> bool:
        is_start = self._first.allows(canvas, Shown(patches=shown.patches))
        return is_start and self._last.allows(canvas, Shown(patches=canvas.nothing, frames=shown.frames))

    @property
    def _first(self) -> FirstFrames:
        return FirstFrames(max_frames=self.max_first_frames)

    @property
    def _last(self) -> LastFrames:
        return LastFrames(max_frames=self.max_last_frames)
