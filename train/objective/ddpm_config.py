"""Settings of denoising diffusion."""

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from train.objective.settings import Reduction

if TYPE_CHECKING:
    from train.objective.base import Objective, Quantity


class DDPMConfig(BaseModel):
    """The noise schedule, what is predicted, and how timesteps are weighed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["ddpm"] = "ddpm"
    num_timesteps: int = Field(1000, ge=2, description="T")
    schedule: Literal["linear", "cosine"] = Field(
        "linear", description="linear: β from 1e-4 to 0.02 (Ho et al. §4); cosine: Nichol & Dhariwal 2021, §3.2"
    )
    zero_terminal_snr: bool = Field(
        False, description="rescale so that x_T is pure noise (Lin et al. 2024, §3.1); needs prediction v or x0"
    )
    prediction: Literal["epsilon", "v", "x0"] = Field("epsilon", description="what the model predicts")
    learn_sigma: bool = Field(
        False, description="predict variances too, by the hybrid loss of Nichol & Dhariwal 2021, §3.1, as DiT does"
    )
    min_snr_gamma: float | None = Field(
        None, gt=0, description="weigh a timestep by min(SNR, γ), relative to the prediction (Hang et al. 2023, §3.4)"
    )
    reduction: Reduction = Field("sample", description="a step's loss is the mean over its samples, or its tokens")

    @model_validator(mode="after")
    def _noise_can_be_told_from_data(self) -> "DDPMConfig":
        if self.zero_terminal_snr and self.prediction == "epsilon":
            raise ValueError(
                "zero_terminal_snr: at the last timestep x_T is ε itself, so predicting epsilon teaches "
                "nothing; set prediction to v or x0"
            )
        if self.zero_terminal_snr and self.min_snr_gamma is not None:
            raise ValueError(
                f"zero_terminal_snr with min_snr_gamma={self.min_snr_gamma:g}: SNR is 0 at the last timestep, and so "
                "is its weight by any prediction; sampling begins there, untrained: leave one of the two out"
            )
        if self.learn_sigma and self.prediction != "epsilon":
            raise ValueError(f"learn_sigma is defined with prediction epsilon, got {self.prediction}")
        return self

    @property
    def num_outputs(self) -> int:
        """Values that the model predicts for each feature of a token: with learned variances two."""
        return 2 if self.learn_sigma else 1

    @property
    def gives(self) -> "frozenset[Quantity]":
        """What a sampler can ask of the model."""
        learned: tuple[Quantity, ...] = ("variance",) if self.learn_sigma else ()
        return frozenset(("x_0", "noise", "velocity", *learned))

    def check_num_steps(self, num_steps: int) -> None:
        """At most as many steps of a sampler as there are timesteps.

        Raises:
            ValueError: there are fewer.
        """
        if num_steps > self.num_timesteps:
            raise ValueError(
                f"got {num_steps}, and the objective has {self.num_timesteps} timesteps; ask for fewer steps"
            )

    def check_timestep(self, timestep: float) -> None:
        """Up to the last i / T; the nearest is taken.

        Raises:
            ValueError: it is below the first, or above the last.
        """
        last = (self.num_timesteps - 1) / self.num_timesteps
        if not 0 <= timestep <= last:
            total = self.num_timesteps
            raise ValueError(f"got timestep {timestep:g}; a DDPM of {total} timesteps has those from 0 to {last:g}")

    def build(self) -> "Objective":
        return resolve_name("train.objective.ddpm:DDPM")(self)
