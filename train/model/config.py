"""The shape of a model, checked before anything is built."""

from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

Patch: TypeAlias = tuple[int, int, int]
"""Size of a patch in latent frames, rows and columns."""

Backend: TypeAlias = Literal["auto", "varlen", "flex", "segments", "dense"]

Pattern: TypeAlias = Literal[
    "joint",
    "alternating",
    "factorized_encoder",
    "factorized_self_attention",
    "factorized_dot_product",
    "windows",
]
Conditioning: TypeAlias = Literal["in_context", "cross_attention", "adaln", "adaln_zero"]
Position: TypeAlias = Literal["rope", "sincos", "absolute", "fractional"]


WindowSize: TypeAlias = tuple[int | None, int | None, int | None]
"""In patches along (t, h, w); None: the whole side."""


class DiTConfig(BaseModel):
    """Shape of the model. DiT-S is width 384, depth 12, 6 heads; DiT-XL is 1152, 28, 16."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(384, ge=16, description="features of a token inside the model")
    depth: int = Field(12, ge=1, description="number of blocks")
    num_heads: int = Field(6, ge=1, description="attention heads; they divide the width")
    mlp_ratio: float = Field(4.0, gt=0, description="hidden width of the MLP over the width")
    patch: Patch = Field((1, 2, 2), description="patch in latent frames, rows, columns")
    qk_norm: bool = Field(True, description="RMS-normalise queries and keys per head")
    attention: Backend = Field("auto", description="kernel of self-attention; auto: by device and precision")

    pattern: Pattern = Field(
        "joint",
        description="who sees whom inside a sample. joint: everyone. alternating: blocks in turn within a frame and "
        "along time. factorized_encoder: the first half of the blocks within frames, the rest along time. "
        "factorized_self_attention: both in every block, one after the other. factorized_dot_product: both in every "
        "block, each by half of the heads. windows: blocks in turn within spatial and space-time windows",
    )
    spatial_window: WindowSize = Field(
        (1, None, None),
        description="windows: size of the odd blocks' windows, in patches; none: the whole side. W.A.L.T has 1, 16, "
        "16 and frames that are no larger",
    )
    spacetime_window: WindowSize = Field(
        (None, 8, 8), description="windows: size of the even blocks' windows, in patches; W.A.L.T has 5, 8, 8"
    )
    shift_windows: bool = Field(False, description="windows: every second pair of blocks moves them by half")

    position: Position = Field(
        "rope",
        description="rope: queries and keys are rotated. sincos: a fixed table is added. absolute, fractional: "
        "learned tables per axis are added, by index or by index over side",
    )
    max_grid: Patch = Field((64, 128, 128), description="absolute and fractional: rows of the learned tables")
    rope_grid: Patch | None = Field(None, description="grid of patches that rope is scaled to; none: never scaled")
    rope_scaling: Literal["interpolation", "ntk"] = Field(
        "ntk", description="what is done beyond rope_grid: positions move closer, or low frequencies slow down"
    )
    reference_fps: float | None = Field(
        None, gt=0, description="patches along time lie in units of 1 / reference_fps seconds; none: 0, 1, 2 …"
    )

    conditioning: Conditioning = Field(
        "adaln_zero", description="how timestep, pooled caption, label, rate and conditions come in"
    )
    adaln: Literal["block", "lora", "shared"] = Field(
        "block",
        description="adaLN weights: each block's own, shared plus a low rank of each block's, shared plus a vector",
    )
    adaln_rank: int = Field(64, ge=1, description="rank of adaln: lora")
    text: Literal["cross_attention", "in_context", "pooled", "none"] = Field(
        "cross_attention",
        description="how the caption's tokens come in; in_context: they join every group of the pattern, so that "
        "temporal and windowed ones repeat them many times; pooled: only their mean comes in",
    )
    num_classes: int | None = Field(None, ge=1, description="class labels; none: no labels")
    condition_on_fps: bool = Field(True, description="the clip's frames per second steer the model")
    conditions: tuple[str, ...] = Field((), description="numbers of a clip that steer the model, such as motion")
    conditioning_latents: dict[str, int] = Field(
        {}, description="further latents that are shown to the model, by name: their channels"
    )
    timestep_scale: float = Field(1000.0, gt=0, description="timesteps are multiplied by it before their sinusoids")
    # Both differ between the published DiT and its port in diffusers, whose checkpoints import exactly.
    timestep_frequencies: Literal["dit", "diffusers"] = Field(
        "dit", description="sinusoids of the timestep fall to 1 / 10,000 of the first, excluding or including it"
    )
    embedders_per_block: bool = Field(False, description="every block embeds timestep and label with its own weights")
    mlp_norm_eps: float = Field(1e-6, gt=0, description="added to the variance by the norm before the MLP")

    @property
    def modulated(self) -> bool:
        """Conditions steer by adaptive layer norm, not by tokens."""
        return self.conditioning in ("adaln", "adaln_zero")

    @property
    def conditions_in_context(self) -> bool:
        return self.conditioning == "in_context"

    @property
    def conditions_in_cross_attention(self) -> bool:
        return self.conditioning == "cross_attention"

    @property
    def cross_attends(self) -> bool:
        return self.conditions_in_cross_attention or self.text == "cross_attention"

    @property
    def num_self_attentions(self) -> int:
        """Of a block, one after the other."""
        return 2 if self.pattern == "factorized_self_attention" else 1

    @property
    def num_condition_tokens(self) -> int:
        """Conditions that are one vector per sample: the timestep, then what the model is built with."""
        optional = (self.text != "none", self.num_classes is not None, self.condition_on_fps)
        return 1 + sum(optional) + len(self.conditions)

    @model_validator(mode="before")
    @classmethod
    def _learn_sigma_is_the_objectives(cls, settings: Any) -> Any:
        if isinstance(settings, dict) and "learn_sigma" in settings:
            raise ValueError(
                "learn_sigma: the objective alone says whether variances are learned; set "
                "train.objective.learn_sigma, and remove it from the model (a folder of train-export or "
                "train-import is written again by the same command)"
            )
        return settings

    @model_validator(mode="after")
    def _is_consistent(self) -> "DiTConfig":
        if self.width % self.num_heads:
            raise ValueError(
                f"got width {self.width} and num_heads {self.num_heads}; expected a multiple of the heads"
            )
        if self.pattern == "factorized_dot_product" and self.num_heads % 2:
            raise ValueError(f"factorized_dot_product needs an even number of heads, got num_heads {self.num_heads}")
        if self.pattern == "factorized_encoder" and self.depth < 2:
            raise ValueError("factorized_encoder needs at least two blocks, got depth 1")
        if any(side is not None and side < 1 for side in (*self.spatial_window, *self.spacetime_window)):
            raise ValueError(f"got windows {self.spatial_window} and {self.spacetime_window}; expected sides above 0")
        if min(*self.patch, *self.max_grid, *(self.rope_grid or (1,))) < 1:
            raise ValueError(
                f"got patch {self.patch}, max_grid {self.max_grid}, rope_grid {self.rope_grid}; expected sides above 0"
            )
        if self.position == "sincos" and self.width % 4:
            raise ValueError(f"position sincos needs a width that 4 divides, got {self.width}")
        if self.adaln != "block" and not self.modulated:
            raise ValueError(f"adaln {self.adaln} needs conditioning adaln or adaln_zero, got {self.conditioning}")
        if len(set(self.conditions)) < len(self.conditions):
            raise ValueError(f"got conditions {self.conditions}; expected each name once")
        return self
