"""Classifier-free guidance (Ho & Salimans 2022)."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from train.sampling.guidance.base import Droppable


class ConstantGuidance(BaseModel):
    """One weight at all noise levels."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["constant"] = "constant"
    drop: tuple[Droppable, ...] = Field(
        ("caption", "label"), min_length=1, description="what the sample is predicted without"
    )
    weight: float = Field(4.0, ge=0, description="1: no guidance; 0: the sample without what is dropped")

    def weight_at(self, time: float) -> float:
        return self.weight

    @property
    def weights(self) -> tuple[float, ...]:
        return (self.weight,)
