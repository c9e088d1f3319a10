"""Generation tasks: which part of a video the model is shown, so that it generates the rest from it.

The loader draws what is shown of each training sample, from its shape alone; sampling asks whether a task could have
drawn what a user supplies. `show` sets either in a sample.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, TypeAlias, TypeVar, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from train.packing.shapes import LONE_FRAMES, SHOWN, Patch

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from train.packing.batch import Sample

StoredLoneFrames: TypeAlias = Literal["none", "last", "all"]
"""Which latent frames of a clip have their last frame encoded alone, too."""
FEWEST_FIRST: tuple[StoredLoneFrames, ...] = get_args(StoredLoneFrames)
GrayVideo: TypeAlias = Literal["first", "both_ends"]
"""A video of which all frames but the first, or the first and the last, are gray."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Shown:
    """What of a video is shown.

    Attributes:
        patches: (t, h, w) bool: patches of its own latent, without noise. They are not generated.
        frames: Numbers of latent frames, ascending. The last frame of each is shown as a picture, encoded alone. The
            whole latent frame is generated.
        gray: Which frames a gray video has, whose latent is shown beside the noisy one. All is generated.
    """

    patches: np.ndarray
    frames: tuple[int, ...] = ()
    gray: GrayVideo | None = None

    def __bool__(self) -> bool:
        return bool(self.patches.any() or self.frames or self.gray)


@dataclass(frozen=True, kw_only=True, slots=True)
class Canvas:
    """The shape of a latent that a task is drawn on."""

    num_frames: int  # of the latent
    grid: Patch  # patches along (t, h, w)

    def first(self, num_patches: int) -> np.ndarray:
        """(t, h, w) bool: the first patches along time."""
        t, h, w = self.grid
        return np.broadcast_to(np.arange(t)[:, None, None] < num_patches, (t, h, w))

    def last_frames(self, num_frames: int) -> tuple[int, ...]:
        return tuple(range(self.num_frames - num_frames, self.num_frames))

    @property
    def nothing(self) -> np.ndarray:
        return self.first(0)


class Task(Protocol):
    """One way of generating."""

    needs_causal: ClassVar[bool]
    """The task is sound only if later frames do not change the first latent frames."""

    @property
    def kind(self) -> str: ...

    @property
    def takes(self) -> str:
        """What a user supplies: options of `reelpack sample`, or nothing."""
        ...

    @property
    def weight(self) -> float: ...

    @property
    def lone_frames(self) -> StoredLoneFrames:
        """Which frames of a clip it shows as pictures."""
        ...

    @property
    def gray(self) -> GrayVideo | None:
        """Which frames of a clip its gray video has; None: it shows none."""
        ...

    def draw(self, canvas: Canvas, generator: "torch.Generator") -> Shown | None:
        """What is shown of a training sample; None: it is too short for the task, and is generated as a whole."""
        ...

    def allows(self, canvas: Canvas, shown: Shown) -> bool:
        """Whether `draw` can give this. `shown.gray` is the task's."""
        ...


class TaskSettings(BaseModel):
    """What all tasks have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float = Field(
        1.0, ge=0, description="share of the samples trained on this task, relative to the sum over all tasks"
    )

    @property
    def gray(self) -> GrayVideo | None:
        return None


AnyTask = TypeVar("AnyTask", bound=Task)


def pick(tasks: Sequence[AnyTask], u: float) -> AnyTask:
    """The task that a uniform draw in [0, 1) falls on, each with the probability of its weight."""
    left = u * sum(task.weight for task in tasks)
    for task in tasks:
        left -= task.weight
        if left < 0:
            return task
    return next(task for task in reversed(tasks) if task.weight)  # rounding


def uniform(generator: "torch.Generator", count: int) -> list[float]:
    """Draws in [0, 1)."""
    import torch

    draws: list[float] = torch.rand(count, generator=generator).tolist()
    return draws


def up_to(limit: int, generator: "torch.Generator") -> int:
    """A number from 1 to `limit`, all equally likely; 0 where the limit is 0."""
    [u] = uniform(generator, 1)
    return 1 + int(u * limit) if limit else 0


def canvas_of(shape: Sequence[int], patch: Patch) -> Canvas:
    """Of a latent of shape (..., T, H, W)."""
    from train.packing.patches import grid_size

    return Canvas(num_frames=shape[-3], grid=grid_size(shape, patch))


def show(sample: "Sample", shown: Shown, pictures: "Tensor | None" = None, gray: "Tensor | None" = None) -> "Sample":
    """The sample with its conditioning set: `clean_mask`, and `conditioning` for pictures and the gray video.

    Args:
        sample: its latent has what `shown.patches` shows.
        shown: of this sample.
        pictures: (C, n, H, W), encoded alone, of `shown.frames`.
        gray: (C, T, H, W), of `shown.gray`.
    """
    import torch

    if shown.gray is not None:
        assert gray is not None, f"{sample.clip_id}: no gray video"
        marked = torch.cat([gray_mask(shown.gray, sample.temporal_stride, gray), gray])
        sample = replace(sample, conditioning={**sample.conditioning, SHOWN: marked})
    if shown.patches.any():
        sample = replace(sample, clean_mask=torch.tensor(shown.patches.reshape(-1)))
    if not shown.frames:
        return sample
    assert pictures is not None, f"{sample.clip_id}: no pictures for frames {shown.frames}"
    c, *sides = sample.latent.shape
    latent, frames = sample.latent.new_zeros(c + 1, *sides), list(shown.frames)
    latent[:c, frames], latent[c, frames] = pictures, 1.0
    return replace(sample, conditioning={**sample.conditioning, LONE_FRAMES: latent})


def gray_mask(kind: GrayVideo, temporal_stride: int, latent: "Tensor") -> "Tensor":
    """(temporal_stride, T, H, W): of the frames of each latent frame, 1 at those that a gray video has. The first
    latent frame has one, which counts as all (`WanImageToVideoPipeline.prepare_latents`)."""
    mask = latent.new_zeros(temporal_stride, *latent.shape[1:])
    mask[:, 0] = 1.0
    if kind == "both_ends":
        mask[-1, -1] = 1.0
    return mask


def allowed(tasks: Iterable[Task], canvas: Canvas, shown: Shown) -> bool:
    """Whether one of the tasks can have drawn this."""
    return any(task.weight and task.gray == shown.gray and task.allows(canvas, shown) for task in tasks)


def gray_of(tasks: Iterable[Task]) -> tuple[GrayVideo, ...]:
    """Which gray videos the tasks show, each once, in the order of the tasks."""
    return tuple(dict.fromkeys(task.gray for task in tasks if task.weight and task.gray))


def lone_frames_of(tasks: Iterable[Task]) -> StoredLoneFrames:
    """Which frames encoded alone the tasks need together."""
    return max((task.lone_frames for task in tasks if task.weight), key=FEWEST_FIRST.index, default="none")


def described(tasks: Iterable[Task]) -> str:
    """Tasks in a message, with what each takes."""
    return "; ".join(f"{task.kind}: {task.takes}" for task in tasks if task.weight)
