"""Image-to-video and extension: the first frames are shown, the rest is generated.

One frame or several, as W.A.L.T (Gupta et al. 2023, §3.4) predicts frames.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from train.data.tasks.base import TaskSettings
from train.packing.shapes import Patch

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from train.packing.batch import Sample


class FirstFrames(TaskSettings):
    """Whole patches along time at the start of a video; an image is generated as a whole."""

    inputs: ClassVar[tuple[str, ...]] = ("start",)
    needs_causal: ClassVar[bool] = True

    kind: Literal["first_frames"] = "first_frames"
    max_frames: int = Field(
        2, ge=1, description="patches along time that are shown: 1 to this number, at most half of the video"
    )

    def draw(self, sample: "Sample", patch: Patch, generator: "torch.Generator") -> "Sample":
        import torch

        number = float(torch.rand((), generator=generator))
        limit = self._limit(sample.latent.shape, patch)
        return _shown(sample, patch, 1 + int(number * limit)) if limit else sample

    def max_latent_frames(self, name: str, num_frames: int, patch: Patch) -> int:
        limit = self._limit((num_frames, patch[1], patch[2]), patch)
        if not limit:
            raise ValueError(f"got a {name} for {num_frames} latent frames; ask for a longer video than the {name}")
        return _latent_frames(limit, num_frames, patch)

    def condition(self, sample: "Sample", patch: Patch, inputs: Mapping[str, "Tensor"]) -> "Sample":
        start, total = inputs["start"], sample.latent.shape[1]
        num_patches = sum(
            _latent_frames(n, total, patch) <= start.shape[1] for n in range(1, _num_patches(sample, patch) + 1)
        )
        if not num_patches:
            raise ValueError(
                f"got a start of {start.shape[1]} latent frames, and a patch has {patch[0]}; supply a longer clip"
            )
        latent = sample.latent.clone()
        latent[:, : start.shape[1]] = start
        return _shown(replace(sample, latent=latent), patch, num_patches)

    def _limit(self, shape: Sequence[int], patch: Patch) -> int:
        """Patches along time that can be shown of a latent (..., T, H, W)."""
        from train.packing.patches import grid_size

        return min(self.max_frames, grid_size(shape, patch)[0] // 2)


def _num_patches(sample: "Sample", patch: Patch) -> int:
    from train.packing.patches import grid_size

    return grid_size(sample.latent.shape, patch)[0]


def _latent_frames(num_patches: int, num_frames: int, patch: Patch) -> int:
    """Latent frames in the first `num_patches` patches along time of `num_frames`."""
    from train.packing.patches import first_frame_is_alone

    return num_patches * patch[0] - (patch[0] - 1 if first_frame_is_alone(num_frames, patch) else 0)


def _shown(sample: "Sample", patch: Patch, num_patches: int) -> "Sample":
    """The sample with its first `num_patches` patches along time shown clean."""
    import torch

    from train.packing.patches import grid_size

    t, h, w = grid_size(sample.latent.shape, patch)
    return replace(sample, clean_mask=torch.arange(t * h * w) < num_patches * h * w)
