"""Everything is generated: from noise, under the caption and the scalar conditions."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from train.data.tasks.base import TaskSettings
from train.packing.shapes import Patch

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from train.packing.batch import Sample


class Unconditional(TaskSettings):
    """No part of the latent is shown to the model."""

    inputs: ClassVar[tuple[str, ...]] = ()
    needs_causal: ClassVar[bool] = False

    kind: Literal["unconditional"] = "unconditional"

    def draw(self, sample: "Sample", patch: Patch, generator: "torch.Generator") -> "Sample":
        return sample

    def max_latent_frames(self, name: str, num_frames: int, patch: Patch) -> int:
        raise ValueError(f"unconditional generation takes no {name}; leave it out")

    def condition(self, sample: "Sample", patch: Patch, inputs: Mapping[str, "Tensor"]) -> "Sample":
        return sample
