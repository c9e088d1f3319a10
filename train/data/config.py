"""What a run reads, and how it is packed: settings alone."""

import math

from pydantic import BaseModel, ConfigDict, Field, field_validator

from train.data.epoch import EpochConfig
from train.data.plan import PlanConfig


class DataConfig(BaseModel):
    """What is read, and how captions are chosen."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    latents: str | tuple[str, ...] = Field(
        "auto",
        description="fingerprint of the latents; several, or all: clips at several sizes; auto: the only one there is",
    )
    text: str = Field("auto", description="fingerprint of the text embeddings; auto: the only one of the dataset")
    mix: dict[str, float] = Field(
        {}, description="weight of each dataset of the run, by its folder's name: its share of samples; none: all once"
    )
    dense_probability: float = Field(0.5, ge=0, le=1, description="share of dense captions; the rest are short")
    caption_dropout: float = Field(0.1, ge=0, le=1, description="share of samples trained without their caption")
    extra_dropout: float = Field(
        0.1, ge=0, le=1, description="share of samples trained without each of model.conditions"
    )
    label_column: str | None = Field(
        None, description="column of the index or of clips.parquet that labels a clip: names, or numbers of classes"
    )
    labels: tuple[str, ...] | None = Field(
        None, description="names of the classes in the order of their numbers; none: those of the column, sorted"
    )
    label_dropout: float = Field(0.1, ge=0, le=1, description="share of samples trained without their label")
    null_dropout: float = Field(
        0.1,
        ge=0,
        le=1,
        description="share of samples trained without caption and label together, which guidance leads away from, in "
        "a model of both; caption_dropout and label_dropout are drawn for the rest",
    )
    given_probability: float = Field(
        0.0, ge=0, le=1, description="share of videos whose first frames are given: shown clean, and without a loss"
    )
    given_max_frames: int = Field(
        2, ge=1, description="latent frames that are given, one up to so many, by a draw; at most half of a video"
    )
    prefetch_steps: int = Field(2, ge=1, description="steps loaded ahead of training, in a thread")
    epoch: EpochConfig = EpochConfig()
    plan: PlanConfig = PlanConfig()

    @field_validator("mix")
    @classmethod
    def _weights_are_not_negative(cls, mix: dict[str, float]) -> dict[str, float]:
        if any(not 0 <= weight < math.inf for weight in mix.values()):
            raise ValueError(f"got weights {mix}; expected numbers from 0 on")
        return mix
