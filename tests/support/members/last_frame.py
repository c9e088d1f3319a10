"""A generation task that the project does not have: the last frame is shown, what leads to it is generated."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from train.data.tasks.base import TaskSettings
from train.packing.shapes import Patch

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from train.packing.batch import Sample


class LastFrame(TaskSettings):
    """The last patch along time of a video."""

    inputs: ClassVar[tuple[str, ...]] = ("end",)
    needs_causal: ClassVar[bool] = True

    kind: Literal["last_frame"] = "last_frame"

    def draw(self, sample: "Sample", patch: Patch, generator: "torch.Generator") -> "Sample":
        import torch

        from train.packing.patches import grid_size

        t, h, w = grid_size(sample.latent.shape, patch)
        return sample if t == 1 else replace(sample, clean_mask=torch.arange(t * h * w) >= (t - 1) * h * w)

    def max_latent_frames(self, name: str, num_frames: int, patch: Patch) -> int:
        if num_frames <= patch[0]:
            raise ValueError(f"got an end for {num_frames} latent frames; ask for a longer video")
        return patch[0]

    def condition(self, sample: "Sample", patch: Patch, inputs: Mapping[str, "Tensor"]) -> "Sample":
        import torch

        latent = sample.latent.clone()
        latent[:, -patch[0] :] = inputs["end"]
        return self.draw(replace(sample, latent=latent), patch, torch.Generator())
