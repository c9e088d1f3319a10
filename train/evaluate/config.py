"""The family of evaluators: a section of settings per member. The classes, which need torch, are found by name."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from train.evaluate.quality.config import QualityConfig
from train.evaluate.settings import TIMESTEPS, EvaluatorSettings, Timesteps


class HeldOutLossConfig(EvaluatorSettings):
    """Loss of held-out clips with fixed noise: by timestep, duration and resolution."""

    evaluator: ClassVar[str] = "train.evaluate.held_out:HeldOutLoss"

    first: int = Field(10, ge=0, description="an early step to evaluate at, the reference of later ones; 0: none")
    timesteps: Timesteps = TIMESTEPS
    max_clips: int = Field(256, ge=1, description="held-out clips, at most")
    duration_edges_s: tuple[float, ...] = Field(
        (2, 4, 8), description="edges of the bins of duration in reports of the loss"
    )
    resolution_edges_px: tuple[int, ...] = Field(
        (256, 512, 1024), description="and by the root of the area of a frame, in pixels"
    )

    @field_validator("duration_edges_s", "resolution_edges_px")
    @classmethod
    def _edges_ascend(cls, edges: tuple[float, ...]) -> tuple[float, ...]:
        if any(not edge > before for before, edge in pairwise((0, *edges))):
            raise ValueError(f"got edges {edges}; expected numbers above 0, each above the one before")
        return edges

    def is_due(self, step: int, last_step: int) -> bool:
        return self.every > 0 and (step in (self.first, last_step) or step % self.every == 0)

    def duration(self, seconds: float) -> str:
        """The bin of a clip; 0 s is an image."""
        return _bin(seconds, self.duration_edges_s, "s") if seconds else "image"

    def resolution(self, height_px: int, width_px: int) -> str:
        """The bin of a frame's size."""
        return _bin(math.sqrt(height_px * width_px), self.resolution_edges_px, "px")


class CaptionLossConfig(EvaluatorSettings):
    """Loss of training clips under their own caption and under another clip's."""

    evaluator: ClassVar[str] = "train.evaluate.captions:CaptionLoss"

    every: int = Field(10_000, ge=0, description="steps between caption tests, and the last step; 0: never")
    timesteps: Timesteps = TIMESTEPS
    max_clips: int = Field(64, ge=1, description="training clips, at most")


class SamplesConfig(EvaluatorSettings):
    """Samples of held-out captions, and of your own prompts, by the averaged weights."""

    evaluator: ClassVar[str] = "train.evaluate.samples:SampleLogging"

    every: int = Field(0, ge=0, description="steps between samples, and the last step; 0: never")
    num_samples: int = Field(4, ge=1, description="held-out captions that are sampled")
    num_steps: int = Field(30, ge=1, description="steps of a sample from noise to data")
    guidance: float = Field(4.0, ge=0, description="classifier-free guidance of samples")
    prompts: tuple[str, ...] | str = Field(
        (), description="your own prompts: a list, or a text file with one in each line; they are sampled, too"
    )
    size: str | None = Field(
        None,
        pattern=r"^\d{1,6}x\d{1,6}$",
        description="WIDTHxHEIGHT of your own prompts, px; none: that of most held-out clips, or training clips",
    )
    num_frames: int | None = Field(None, ge=1, description="frames of your own prompts; none: as most held-out clips")

    @property
    def sides(self) -> tuple[int, int] | None:
        """Width and height of the user's own prompts, px."""
        if self.size is None:
            return None
        width, _, height = self.size.partition("x")
        return int(width), int(height)


class EvaluateConfig(BaseModel):
    """What is measured while a run trains, and when: one line per evaluator."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    held_out: HeldOutLossConfig = HeldOutLossConfig()
    captions: CaptionLossConfig = CaptionLossConfig()
    samples: SamplesConfig = SamplesConfig()
    quality: QualityConfig = QualityConfig()


def _bin(value: float, edges: Sequence[float], unit: str) -> str:
    """Between which of the edges a value is: "2-4 s", "8+ s"; an edge belongs to the bin above it."""
    ends = [0, *edges]
    i = bisect_right(edges, value)
    return f"{ends[i]:g}+ {unit}" if i == len(edges) else f"{ends[i]:g}-{ends[i + 1]:g} {unit}"
