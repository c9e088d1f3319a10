"""How a model is fine-tuned: `train.finetune`. Needs no torch, like all settings."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

FrozenDtype = Literal["float32", "bfloat16", "int8", "nf4"]
FROZEN_DTYPE: Any = Field(
    "float32",
    description="of linear layers that do not train. bfloat16 halves them, and computes in bfloat16 (train.dtype). "
    "int8 and nf4 keep those of the blocks in 8 or 4 bits; nf4 needs bitsandbytes",
)


class FullConfig(BaseModel):
    """All weights train, or those that `train.trainable` names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["full"] = "full"
    frozen_dtype: FrozenDtype = FROZEN_DTYPE


class TargetConfig(BaseModel):
    """Rank and scale of the adapters of one glob; what is not given is the run's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: int | None = Field(None, ge=1, description="rank of the update; null: finetune.rank")
    alpha: float | None = Field(None, gt=0, description="null: finetune.alpha; where the rank is given: that rank")


class LoraConfig(BaseModel):
    """Low-rank updates of linear layers (LoRA, Hu et al. 2021, arXiv:2106.09685); the rest is frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["lora"] = "lora"
    rank: int = Field(16, ge=1, description="rank of the updates")
    alpha: float | None = Field(None, gt=0, description="the update is times alpha / rank; null: the rank, so times 1")
    targets: dict[str, TargetConfig] = Field(
        {"blocks.*attention*": TargetConfig()},
        min_length=1,
        description="globs of names of linear layers (* crosses dots), with rank and alpha of each; a layer is of the "
        "first that matches. A list of globs takes the run's",
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="share of the updates' inputs that is dropped in training")
    dora: bool = Field(
        False, description="directions by the update, lengths by a vector (DoRA, Liu et al. 2024, arXiv:2402.09353)"
    )
    rslora: bool = Field(
        False, description="times alpha / √rank, for high ranks (rsLoRA, Kalajdzievski 2023, arXiv:2312.03732)"
    )
    frozen_dtype: FrozenDtype = FROZEN_DTYPE

    @field_validator("targets", mode="before")
    @classmethod
    def _from_list(cls, targets: Any) -> Any:
        if isinstance(targets, str):
            return {targets: {}}
        if isinstance(targets, list | tuple):
            return {glob: {} for glob in targets}
        if isinstance(targets, dict):  # a number is a rank, as of --set 'train.finetune.targets={*.mlp.*: 4}'
            return {glob: {"rank": one} if isinstance(one, int) else one or {} for glob, one in targets.items()}
        return targets

    @model_validator(mode="after")
    def _ranks_are_one_way(self) -> "LoraConfig":
        if self.dora and self.dropout:
            raise ValueError(
                f"finetune.dora and finetune.dropout={self.dropout:g}: dropped inputs have no length to keep; set one "
                "of them"
            )
        if self.dora and self.frozen_dtype in ("int8", "nf4"):
            raise ValueError(
                f"finetune.dora and finetune.frozen_dtype={self.frozen_dtype}: a direction's length is that of the "
                "whole weight; set frozen_dtype to float32 or bfloat16, or dora to false"
            )
        return self

    def of(self, target: TargetConfig) -> tuple[int, float]:
        """Rank and alpha of a target."""
        rank = self.rank if target.rank is None else target.rank
        own = None if target.rank is not None else self.alpha
        return rank, target.alpha or own or float(rank)


FinetuneConfig = Annotated[FullConfig | LoraConfig, Field(discriminator="kind")]
