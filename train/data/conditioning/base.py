"""Conditioning latents: another latent of the same clip, brought to the grid of the sample and shown with noise.

A cascade (Ho et al. 2022, "Imagen Video", §2.3) trains each stage on what the stage below makes. Here that is a
latent of the clip that is stored as well: at fewer pixels, or at a lower rate. The model reads its channels with those
of the sample (`train.model.conditioning.ConditioningEmbedder`).

Noise conditioning augmentation (Ho et al. 2022, "Cascaded Diffusion Models", §4.2) adds noise of a level that is drawn
for each sample. The model is told the level, so that while sampling it can be told how far to trust what it is given.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from train.packing.batch import Sample


@dataclass(frozen=True, kw_only=True, slots=True)
class Extent:
    """What stored latents show of their clips, one number per row each, (P,)."""

    frames: np.ndarray  # of the latent
    rows: np.ndarray  # of the latent
    columns: np.ndarray  # of the latent
    fps: np.ndarray  # of the clip as encoded, frames per second; 0: an image
    start_s: np.ndarray  # seconds of the clip before its first frame


class ConditioningSettings(BaseModel, ABC):
    """What all members have. The member's `kind` names the latent in samples, packs and models."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    remedy: ClassVar[str]
    """The setting of `encode` that stores what a sample is conditioned on."""

    kind: str
    latents: str | tuple[str, ...] = Field(
        "auto", description="fingerprint of the latents that samples are conditioned on; auto: any of the dataset's"
    )
    max_noise: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="most noise that is added to the latent; each sample draws a level from 0 to this, the standard "
        "deviation of noise at a variance of 1 in all",
    )

    @abstractmethod
    def distance(self, own: Extent, other: Extent) -> np.ndarray:
        """How badly a stored latent fits as the condition of another of the same clip, for P pairs.

        Returns:
            (P,) float64; inf: it does not fit.
        """

    @property
    @abstractmethod
    def frame_step(self) -> int:
        """Frames of a sample for one of its condition."""

    @property
    @abstractmethod
    def side_factor(self) -> float:
        """Sides of a sample over those of its condition."""

    def on_grid(self, latent: "Tensor", shape: tuple[int, int, int]) -> "Tensor":
        """A stored latent (C, t, h, w) at the size of its sample, (C, T, H, W) for `shape` (T, H, W).

        Frame n of the condition is at frame n · `frame_step` of the sample; frames between two are a linear blend,
        those after the last repeat it. Rows and columns cover the same picture and are interpolated bilinearly.
        """
        import torch
        from torch.nn.functional import interpolate

        num_frames, height, width = shape
        at = (torch.arange(num_frames) / self.frame_step).clamp(max=latent.shape[1] - 1)
        before = at.long()
        after = (before + 1).clamp(max=latent.shape[1] - 1)
        share = (at - before)[:, None, None]
        latent = (1 - share) * latent[:, before] + share * latent[:, after]  # (C, T, h, w)
        sized: torch.Tensor = interpolate(latent, (height, width), mode="bilinear")
        return sized

    def draw(self, sample: "Sample", shown: "Tensor", generator: "torch.Generator") -> "Sample":
        """Condition a training sample on `shown`, (C, T, H, W), with noise of a level that is drawn."""
        import torch

        level = self.max_noise * float(torch.rand((), generator=generator))
        return self.condition(sample, shown, level, generator)

    def condition(self, sample: "Sample", shown: "Tensor", level: float, generator: "torch.Generator") -> "Sample":
        """Condition a sample on `shown`, (C, T, H, W), with noise of `level` at constant variance."""
        import torch

        noise = torch.randn(shown.shape, generator=generator)
        latent = math.sqrt(1 - level**2) * shown + level * noise
        return replace(
            sample,
            conditioning={**sample.conditioning, self.kind: latent},
            noise_levels={**sample.noise_levels, self.kind: level},
        )

    def record(self, fingerprints: list[str]) -> dict[str, Any]:
        """What a run's record says."""
        return {**self.model_dump(mode="json"), "latents": fingerprints}
