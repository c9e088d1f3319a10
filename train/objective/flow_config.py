"""Settings of rectified flow."""

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from train.objective.settings import Reduction

if TYPE_CHECKING:
    from train.objective.base import Objective, Quantity


class FlowConfig(BaseModel):
    """How timesteps are drawn and losses weighed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["flow"] = "flow"
    timesteps: Literal["logit_normal", "uniform", "mode"] = Field(
        "logit_normal", description="distribution of t in training"
    )
    logit_mean: float = Field(0.0, description="mean of logit(t); above 0 leans to noise")
    logit_std: float = Field(1.0, gt=0, description="standard deviation of logit(t)")
    mode_scale: float = Field(
        1.29, ge=-1, le=1.75, description="of `mode`: above 0 favors the middle, below it the ends (0: uniform)"
    )
    shift: float = Field(
        1.0,
        gt=0,
        description="every t is shifted to noise by it, as the schedulers of released models do; 1: no shift",
    )
    shift_base_tokens: int | None = Field(
        None, ge=1, description="samples of n tokens shift t to noise by sqrt(n / shift_base_tokens); none: no shift"
    )
    reduction: Reduction = Field("sample", description="a step's loss is the mean over its samples, or its tokens")

    @property
    def num_outputs(self) -> int:
        """Values that the model predicts for each feature of a token."""
        return 1

    @property
    def gives(self) -> "frozenset[Quantity]":
        """What a sampler can ask of the model."""
        return frozenset({"x_0", "noise", "velocity"})

    def check_num_steps(self, num_steps: int) -> None:
        """Any number of steps of a sampler."""

    def check_timestep(self, timestep: float) -> None:
        """Any in [0, 1].

        Raises:
            ValueError: it is none.
        """
        if not 0 <= timestep <= 1:
            raise ValueError(f"got timestep {timestep:g}; a flow has those from 0 (data) to 1 (noise)")

    def build(self) -> "Objective":
        return resolve_name("train.objective.flow:RectifiedFlow")(self)
