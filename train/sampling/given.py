"""What a video is generated from, besides its prompt: frames and regions that a user supplies, as latents."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from train.data.tasks.base import Canvas, GrayVideo, Shown, Task, allowed, canvas_of, described, show
from train.packing.batch import Sample
from train.packing.patches import first_frame_is_alone
from train.packing.shapes import Patch


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Given:
    """Latents of the run's autoencoder, of the size that is generated.

    Attributes:
        start: (C, T', H, W), the first frames, encoded as a video of its own.
        frames: (C, H, W) by the number of a latent frame: its last frame, encoded alone.
        video: (C, T, H, W), of which patches stay, or which generation starts from (`SampleConfig.strength`).
        kept: (t, h, w) bool: the patches of `video` that stay.
        inverted: `video` is led to noise, and generation starts from there (`train.sampling.invert`).
        gray: (C, T, H, W) of a gray video, of which `gray_frames` are given.
        picture: (n, D') states of the frames that it has, for models that read them.
    """

    start: Tensor | None = None
    frames: Mapping[int, Tensor] = field(default_factory=dict)
    video: Tensor | None = None
    kept: np.ndarray | None = None
    inverted: bool = False
    gray: Tensor | None = None
    gray_frames: GrayVideo | None = None
    picture: Tensor | None = None

    def shown(self, canvas: Canvas, patch: Patch) -> Shown:
        """What the model sees of this."""
        patches = canvas.nothing if self.kept is None else self.kept
        if self.start is not None:
            patches = patches | canvas.first(whole_patches(self.start.shape[1], canvas, patch))
        return Shown(patches=patches, frames=tuple(sorted(self.frames)), gray=self.gray_frames)

    def __bool__(self) -> bool:
        return self.start is not None or bool(self.frames) or self.video is not None or self.gray is not None


def whole_patches(num_frames: int, canvas: Canvas, patch: Patch) -> int:
    """Patches along time that the first latent frames fill."""
    alone = patch[0] - 1 if first_frame_is_alone(canvas.num_frames, patch) else 0
    return min((num_frames + alone) // patch[0], canvas.grid[0])


def conditioned(sample: Sample, patch: Patch, given: Given, tasks: Sequence[Task]) -> Sample:
    """A sample that is generated from what is given; its latent is zeros, (C, T, H, W).

    Raises:
        ValueError: the run was trained on no task that is given this.
    """
    canvas = canvas_of(sample.latent.shape, patch)
    latent = torch.zeros_like(sample.latent) if given.video is None else given.video.clone()
    if latent.shape != sample.latent.shape:
        raise ValueError(
            f"got a video whose latent is {tuple(latent.shape)}, to generate {tuple(sample.latent.shape)}: expected "
            "the same"
        )
    shown = given.shown(canvas, patch)
    check_trained(tasks, canvas, shown)
    if given.start is not None:
        latent[:, : given.start.shape[1]] = given.start
    pictures = [given.frames[frame] for frame in shown.frames]
    sample = replace(sample, latent=latent, picture=given.picture)
    return show(sample, shown, torch.stack(pictures, dim=1) if pictures else None, given.gray)


def check_trained(tasks: Sequence[Task], canvas: Canvas, shown: Shown) -> None:
    """See that a task of the run shows such parts of a video. Nothing is shown where all is generated.

    Raises:
        ValueError: none does; it says which tasks there are.
    """
    if not shown or allowed(tasks, canvas, shown):
        return
    raise ValueError(
        f"got {in_words(shown)}, of {canvas.num_frames} latent frames, and the run was trained on the tasks "
        f"({described(tasks)}); leave it out, ask for a longer video, or train a run with a task that takes it "
        "(train.data.tasks)"
    )


def in_words(shown: Shown) -> str:
    """What is shown, for messages."""
    t = len(shown.patches)
    whole = shown.patches.all(axis=(1, 2))
    parts = []
    if whole.any() and np.array_equal(whole, np.arange(t) < whole.sum()):
        parts.append(f"a start of {int(whole.sum())} of {t} patches along time")
    elif shown.patches.any():
        parts.append(f"{int(shown.patches.sum())} of {shown.patches.size} patches of a video")
    if shown.frames:
        parts.append(f"pictures at latent frames {', '.join(map(str, shown.frames))}")
    if shown.gray:
        parts.append(f"a video that is gray but for {'its first frame' if shown.gray == 'first' else 'both ends'}")
    return " and ".join(parts)
