"""Guidance in a limited interval (Kynkäänniemi et al. 2024)."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from train.sampling.guidance.base import Droppable


class IntervalGuidance(BaseModel):
    """One weight where low < time ≤ high, otherwise 1: at high noise guidance costs variety, at low noise it does
    little. Steps outside cost one evaluation of the model. The paper's sigma is time / (1 - time)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["interval"] = "interval"
    drop: tuple[Droppable, ...] = Field(
        ("caption", "label"), min_length=1, description="what the sample is predicted without"
    )
    weight: float = Field(4.0, ge=0, description="inside the interval; 1: no guidance")
    low: float = Field(0.0, ge=0, le=1, description="share of noise, 0 (data) to 1 (noise), above which it guides")
    high: float = Field(0.7, ge=0, le=1, description="share of noise up to which it guides; REPA has 0.7 for SiT-XL")

    @model_validator(mode="after")
    def _is_an_interval(self) -> "IntervalGuidance":
        if self.low >= self.high:
            raise ValueError(f"got low {self.low:g} and high {self.high:g}; expected low below high")
        return self

    def weight_at(self, time: float) -> float:
        return self.weight if self.low < time <= self.high else 1.0

    @property
    def weights(self) -> tuple[float, ...]:
        return (1.0, self.weight)
