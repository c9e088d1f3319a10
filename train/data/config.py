"""What a run reads, and how it is packed: settings alone."""

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from train.data.blend import DEFAULT_BLEND, BlendConfig
from train.data.conditioning.config import ConditioningConfig
from train.data.epoch import EpochConfig
from train.data.plan import PlanConfig
from train.data.tasks.config import TaskConfig
from train.data.tasks.unconditional import Unconditional


class DataConfig(BaseModel):
    """What is read, and how captions are chosen."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    latents: str | tuple[str, ...] = Field(
        "auto",
        description="fingerprint of the latents; several, or all: clips at several sizes; auto: the only one there is",
    )
    text: str = Field(
        "auto",
        description="fingerprint of the text embeddings; auto: the only one of the dataset; none: without captions. "
        "With uncaptioned: allow, datasets without it have none",
    )
    uncaptioned: Literal["warn", "allow", "refuse"] = Field(
        "warn",
        description="training clips without a text embedding. warn: they are trained under the null caption, which is "
        "told with what to run, and a dataset whose captions are all not embedded is refused. allow: they are trained "
        "so on purpose, such as videos beside images with captions. refuse: there may be none",
    )
    clips: tuple[str, ...] = Field(
        (), description="ids of the clips that train, or their beginnings; the held-out ones stay; none: all"
    )
    mix: dict[str, float] = Field(
        {}, description="weight of each dataset of the run, by its folder's name: its share of samples; none: all once"
    )
    blend: BlendConfig = Field(
        DEFAULT_BLEND, description="weights of the levels of captions; a level that is not named has weight 0"
    )
    caption_dropout: float = Field(0.1, ge=0, le=1, description="share of samples trained without their caption")
    condition_dropout: float = Field(
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
    tasks: tuple[TaskConfig, ...] = Field(
        (Unconditional(),),
        min_length=1,
        description="generation tasks: what a sample is generated from; each sample draws one by the tasks' weights",
    )
    conditioning: tuple[ConditioningConfig, ...] = Field(
        (),
        description="latents of the same clip, of another size or rate, that each sample is conditioned on: a stage "
        "of a cascade",
    )
    prefetch_steps: int = Field(2, ge=1, description="steps loaded ahead of training, in a thread")
    epoch: EpochConfig = EpochConfig()
    plan: PlanConfig = PlanConfig()

    @model_validator(mode="before")
    @classmethod
    def _first_frames_are_a_task(cls, settings: Any) -> Any:
        """`given_probability` and `given_max_frames` became the task `first_frames`."""
        keys = settings if isinstance(settings, dict) else {}
        old = [key for key in ("given_probability", "given_max_frames") if key in keys]
        if not old:
            return settings
        share, frames = keys.get("given_probability", 0), keys.get("given_max_frames", 2)
        tasks = f"[{{kind: first_frames, weight: {share}, max_frames: {frames}}}, {{kind: unconditional}}]"
        remedy = f"set train.data.tasks={tasks} (give the second the rest of the weight), and remove the old keys"
        raise ValueError(
            f"{' and '.join(old)}: first frames are now a task; {remedy if share else 'remove the old keys'}"
        )

    @field_validator("tasks")
    @classmethod
    def _some_task_is_drawn(cls, tasks: tuple[TaskConfig, ...]) -> tuple[TaskConfig, ...]:
        if not any(task.weight for task in tasks):
            raise ValueError("got tasks whose weights are all 0; expected at least one above 0")
        return tasks

    @field_validator("conditioning")
    @classmethod
    def _kinds_are_distinct(cls, conditioning: tuple[ConditioningConfig, ...]) -> tuple[ConditioningConfig, ...]:
        if len({one.kind for one in conditioning}) < len(conditioning):
            raise ValueError(f"got {', '.join(one.kind for one in conditioning)}; expected each kind once")
        return conditioning

    @field_validator("mix")
    @classmethod
    def _weights_are_not_negative(cls, mix: dict[str, float]) -> dict[str, float]:
        if any(not 0 <= weight < math.inf for weight in mix.values()):
            raise ValueError(f"got weights {mix}; expected numbers from 0 on")
        return mix
