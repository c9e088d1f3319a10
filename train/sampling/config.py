"""Settings of sampling. Nothing here needs torch."""

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from train.sampling.guidance.config import (
    AutoGuidance,
    CombinationConfig,
    ConstantGuidance,
    Guidance,
    LinearCombination,
    num_branches,
)
from train.sampling.samplers.config import EulerSampler, SamplerConfig

if TYPE_CHECKING:
    from train.objective.base import ObjectiveSettings


class SampleConfig(BaseModel):
    """How samples are drawn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sampler: SamplerConfig = Field(
        EulerSampler(), description="how x_t becomes data: a name, such as heun, or its settings (kind: heun)"
    )
    num_steps: int = Field(
        50, ge=1, description="steps from noise to data; heun evaluates the model twice in each but the last"
    )
    strength: float = Field(
        1.0,
        gt=0,
        le=1,
        description="of a video that is edited: share of the steps that are taken, from as much noise on; the less, "
        "the more of it stays; 1: from noise alone",
    )
    source_prompt: str | None = Field(
        None,
        description="of a clip that is edited by inversion (`reelpack sample --invert`): what it shows; none: its "
        "caption, where it is a clip of the run's datasets, or no caption",
    )
    null_text: int = Field(
        0,
        ge=0,
        description="of such a clip: iterations of null-text optimization in each step, which keeps what guidance "
        "would change; the paper has 10; 0: none",
    )
    step: int | None = Field(None, description="the checkpoint after this step of the run; none: the newest")
    guidance: Guidance = Field(
        (ConstantGuidance(),),
        description="classifier-free guidance: its weight (1: the caption as trained, 0: no caption), or a list of "
        "rules, each with what it drops (drop) and its weight",
    )
    combination: CombinationConfig = Field(
        LinearCombination(), description="how what guidance adds is combined with the model's answer"
    )
    negative: str = Field(
        "", description="prompt that guidance leads away from, in branches without the caption; empty: no caption"
    )
    lora: tuple[str, ...] = Field(
        (), description="files of low-rank updates that are added to the model, each FILE or FILE:STRENGTH"
    )
    seed: int = Field(0, ge=0, description="of the noise of the first video; each further one has the next number")
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (), description="of `reelpack sample`: a video of each prompt for each of them, in place of `seed`"
    )
    window_frames: int | None = Field(
        None,
        ge=1,
        description="frames of a window: a longer video is drawn in several, each from the last frames of the one "
        "before (task first_frames); none: the most that the run was trained on",
    )
    conditioning_noise: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="noise that is added to what a stage of a cascade is given, and told to it: more noise lets it "
        "depart further from the stage below; at most as trained (train.data.conditioning, max_noise)",
    )
    super_resolution: str | None = Field(
        None,
        description="network that doubles the sides of decoded videos: embedded, or a folder of "
        "train_autoencoder.super_resolution; sizes that are asked for are those before it; null: none",
    )
    conditions: dict[str, float] = Field(
        {}, description="scalar conditions by name (train.model.conditions); what is left out has no effect"
    )
    fps: float | None = Field(None, gt=0, description="frames per second; none: the run's most frequent rate")
    weights: Literal["ema", "model"] = Field("ema", description="EMA or last weights")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: CUDA where there is a device")

    @model_validator(mode="after")
    def _has_one_weaker_model(self) -> Self:
        if len({(rule.run, rule.step) for rule in self.guidance if isinstance(rule, AutoGuidance)}) > 1:
            raise ValueError("guidance: got several weaker models of autoguidance; expected one")
        if self.negative and not self.drops_caption:
            raise ValueError(
                "negative: no rule of guidance drops the caption, in whose place the negative prompt stands; expected "
                "one, such as guidance=4"
            )
        return self

    @property
    def drops_caption(self) -> bool:
        """Whether a branch has the negative prompt in the place of the caption."""
        return any("caption" in rule.drop for rule in self.guidance)

    @property
    def weaker(self) -> AutoGuidance | None:
        """The rule with a weaker model."""
        return next((rule for rule in self.guidance if isinstance(rule, AutoGuidance)), None)

    @property
    def num_last_steps(self) -> int:
        """Of the steps, those that are taken: by `strength`, of a video that is edited."""
        return max(1, round(self.strength * self.num_steps))

    def check_inversion(self) -> None:
        """See that a clip can be edited by inversion so.

        Raises:
            ValueError: the sampler does not lead from data to noise, or there is nothing that null-text optimization
                could fit; says what would do.
        """
        if not self.sampler.inverts:
            raise ValueError(
                f"sample.sampler: {self.sampler.kind} draws noise, or steps by what it knows of the steps before, and "
                "--invert runs a sampler from data to noise; take euler, heun, or ddim with eta 0"
            )
        if not self.null_text:
            return
        if self.sampler.kind == "heun":
            raise ValueError("sample.null_text: a step of heun asks the model twice; take the sampler euler or ddim")
        if self.negative or not self.drops_caption:
            got = f"the negative prompt {self.negative!r}" if self.negative else "no rule that drops the caption"
            raise ValueError(
                f"sample.null_text fits what stands for no caption under guidance, and got {got}; expected guidance "
                "such as sample.guidance=4, and no negative prompt"
            )

    def check_objective(self, objective: "ObjectiveSettings") -> None:
        """See that a model that is trained on this objective can be sampled so.

        Raises:
            ValueError: it does not give what the sampler needs, or has fewer timesteps than the sampler has steps.
        """
        if missing := sorted(self.sampler.needs - objective.gives):
            raise ValueError(
                f"sample.sampler: {self.sampler.kind} needs {', '.join(missing)} from the model, and objective "
                f"{objective.kind} gives {', '.join(sorted(objective.gives))}; take another sampler"
            )
        try:
            objective.check_num_steps(self.num_steps)
        except ValueError as error:
            raise ValueError(f"sample.num_steps: {error}") from error

    @property
    def num_branches(self) -> int:
        """Predictions of one sample, at most, that guidance combines in a step."""
        return num_branches(self.guidance)
