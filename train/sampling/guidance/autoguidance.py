"""Autoguidance: away from a weaker model of the same task (Karras et al. 2024)."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from train.sampling.guidance.base import Droppable


class AutoGuidance(BaseModel):
    """A model that is trained less, or is smaller, errs as the model does, but more: the difference points away from
    errors, and leaves variety. The paper's weaker model has a sixteenth of the training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["autoguidance"] = "autoguidance"
    weight: float = Field(2.0, ge=0, description="1: no guidance")
    run: str | None = Field(
        None, description="run of the weaker model, trained on the same latents and text embeddings; null: this run"
    )
    step: int | None = Field(
        None, description="checkpoint of the weaker model; null: the newest of `run`, or the oldest of this run"
    )
    drop: tuple[Droppable, ...] = Field((), description="what the weaker model is not shown")

    def weight_at(self, time: float) -> float:
        return self.weight

    @property
    def weights(self) -> tuple[float, ...]:
        return (self.weight,)
