"""The shape of a DiT, checked before anything is built."""

from collections.abc import Sequence
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from pydantic import Field, model_validator

from train.model.base_config import DenoiserConfig
from train.model.caption_config import CaptionConfig
from train.model.mixers.attention_config import AttentionConfig
from train.model.mixers.base_config import LOOSE, QKNorm
from train.model.mixers.config import MixerUnion
from train.model.picture_config import PictureConfig
from train.packing.shapes import TEMPORAL, BlockWindows, Patch

if TYPE_CHECKING:
    from torch import Tensor

    from train.packing.batch import PackedBatch
    from train.packing.share import ContextGroup

Conditioning: TypeAlias = Literal["in_context", "cross_attention", "adaln", "adaln_zero"]
Position: TypeAlias = Literal["rope", "sincos", "absolute", "fractional", "fourier", "none"]

MOVED = {
    "attention": "mixer.kernel",
    "pattern": "mixer.pattern",
    "spatial_window": "mixer.spatial_window",
    "spacetime_window": "mixer.spacetime_window",
    "shift_windows": "mixer.shift_windows",
}
"""Old key below `train.model`: new key."""


class DiTConfig(DenoiserConfig):
    """Shape of the model. DiT-S is width 384, depth 12, 6 heads; DiT-XL is 1152, 28, 16."""

    may_differ_from_init: ClassVar[frozenset[str]] = frozenset(
        {"mixer", "temporal", "patch", "rope_grid", "rope_scaling", "reference_fps", "frame_lag"}
        | {
            "text",
            "text_padding",
            "shown_channels",
            "num_classes",
            "condition_on_fps",
            "conditions",
            "conditioning_latents",
            "self_conditioning",
        }
    )

    kind: Literal["dit"] = "dit"
    width: int = Field(384, ge=16, description="features of a token inside the model")
    depth: int = Field(12, ge=1, description="number of blocks")
    num_heads: int = Field(6, ge=1, description="attention heads; they divide the width")
    mlp_ratio: float = Field(4.0, gt=0, description="hidden width of the MLP over the width")
    mlp: Literal["gelu", "gated_convolution"] = Field(
        "gelu",
        description="gated_convolution: twice mlp_ratio features, convolved over the patches around a patch within "
        "its frame, of which half gate the others (Sana)",
    )
    qk_norm: QKNorm = Field(
        True, description="RMS-normalise queries and keys of attention, per head; width: over all heads at once (Wan)"
    )
    qk_norm_eps: float = Field(1e-6, description="added to the mean square by qk_norm: 1e-6, or 1e-5 (LTX-Video)")
    norm: Literal["layer", "rms"] = Field(
        "layer", description="norm before token mixers and MLP; rms: the mean is not subtracted (LTX-Video)"
    )
    mixer: MixerUnion = Field(AttentionConfig(), description="what mixes tokens inside a block")
    temporal: Literal["none", "attention", "convolution", "both"] = Field(
        "none",
        description="layers along time that every block has after its token mixer, and that images skip: an image "
        "model becomes one of videos. both: the convolution, then attention",
    )

    position: Position = Field(
        "rope",
        description="rope: queries and keys are rotated. sincos: a fixed table is added. absolute, fractional: "
        "learned tables per axis are added, by index or by index over side. fourier: learned frequencies of it. "
        "none: a convolution tells patches apart, or nothing does",
    )
    position_product: bool = Field(
        False, description="absolute and fractional: the vectors of the axes are multiplied, not summed"
    )
    max_grid: Patch = Field(
        (64, 128, 128), description="absolute and fractional: rows of the learned tables; fourier: the unit"
    )
    rope_grid: Patch | None = Field(None, description="grid of patches that rope is scaled to; none: never scaled")
    rope_scaling: Literal["interpolation", "ntk"] = Field(
        "ntk", description="what is done beyond rope_grid: positions move closer, or low frequencies slow down"
    )
    rope_span: tuple[float, float, float] | None = Field(
        None,
        description="rope: frames, rows and columns of this span become -1 to 1, and frequencies are spread over all "
        "heads (LTX-Video: 20 s, 64, 64); none: frequencies of each head, of positions as they are",
    )
    frame_lag: float = Field(
        0.0,
        ge=0,
        description="latent frames by which those after the first lie earlier, as a causal autoencoder's do "
        "(LTXConditionPipeline: 0.875)",
    )
    sincos_extent: float | None = Field(
        None,
        gt=0,
        description="sincos: rows and columns of every grid span this many units (PixArt-α, §2.4); none: 0, 1, 2 …",
    )
    frame_positions: Literal["input", "temporal"] = Field(
        "input",
        description="sincos: positions of frames are added to the input, less frame 0's; or, of videos, before the "
        "first block along time, as Latte has it",
    )
    reference_fps: float | None = Field(
        None, gt=0, description="patches along time lie in units of 1 / reference_fps seconds; none: 0, 1, 2 …"
    )

    condition_on_size: int | None = Field(
        None,
        ge=1,
        description="height, width and their ratio steer the model, each by a third of the vector (PixArt-α's code): "
        "pixels of a latent position; none: they do not",
    )
    conditioning: Conditioning = Field(
        "adaln_zero", description="how timestep, pooled caption, label, rate and conditions come in"
    )
    adaln: Literal["block", "lora", "shared"] = Field(
        "block",
        description="adaLN weights: each block's own, shared plus a low rank of each block's, shared plus a vector",
    )
    adaln_rank: int = Field(64, ge=1, description="rank of adaln: lora")
    final_adaln: Literal["linear", "table"] = Field(
        "linear",
        description="shift and scale of the last norm: a linear layer on the condition vector, or a learned vector "
        "for each that is added to it (PixArt-α, Wan)",
    )
    text: Literal["cross_attention", "in_context", "pooled", "none"] = Field(
        "cross_attention",
        description="how the caption's tokens come in; in_context: they join every group of the pattern, so that "
        "temporal and windowed ones repeat them many times; pooled: only their mean comes in",
    )
    cross_attention_in: Literal["all", "spatial"] = Field(
        "all",
        description="blocks with cross-attention. spatial: those that mix tokens of single frames, as in W.A.L.T",
    )
    cross_attention_over: Literal["context", "joint"] = Field(
        "context",
        description="what cross-attention reads: caption and conditions, or joint: the tokens of the block's window, "
        "too, as in W.A.L.T",
    )
    cross_attention_norm: Literal["plain", "affine", "none"] = Field(
        "plain",
        description="layer norm before cross-attention; affine: with learned scale and shift (Wan); none: PixArt-α",
    )
    cross_attention_heads: int | None = Field(
        None, ge=1, description="heads of cross-attention, which divide the width; none: num_heads"
    )
    caption: CaptionConfig = Field(CaptionConfig(), description="what is made of a caption's token states")
    picture: PictureConfig | None = Field(
        None, description="states of a picture, which cross-attention reads, too (Wan 2.1 image-to-video); none"
    )
    shown_channels: int = Field(
        0,
        ge=0,
        description="channels beside the noisy ones that patches are embedded with (Wan image-to-video: 4 of a mask, "
        "then the autoencoder's latent of the given frames followed by gray)",
    )
    text_padding: int | None = Field(
        None,
        ge=1,
        description="cross-attention sees captions that are filled with states of zeros to this many tokens (Wan: "
        "512); none: their own tokens",
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

    def cross_attends(self, block: int) -> bool:
        if not self.conditions_in_cross_attention and self.text != "cross_attention":
            return False
        return self.cross_attention_in == "all" or self._is_spatial(block)

    def reads_jointly(self, block: int) -> bool:
        """Cross-attention of the block reads the tokens of its window, too."""
        return self.cross_attention_over == "joint" and self.cross_attends(block)

    @property
    def first_temporal_block(self) -> int | None:
        """The first block whose tokens see those of their own place in other frames alone; None: there is none."""
        return next((block for block in range(self.depth) if self.windows(block) == ((TEMPORAL,),)), None)

    def _is_spatial(self, block: int) -> bool:
        return all(window.size[0] == 1 for heads in self.windows(block) for window in heads)

    @property
    def temporal_layers(self) -> tuple[str, ...]:
        """Names of a block's layers along time, in their order."""
        return {"none": (), "both": ("convolution", "attention")}.get(self.temporal, (self.temporal,))

    @property
    def frames_apart(self) -> bool:
        """Frames meet in the layers along time alone, which alone know where a frame is: before they have learned
        anything, each frame of a video is what the model makes of an image."""
        return self.temporal != "none" and all(map(self._is_spatial, range(self.depth)))

    @property
    def num_condition_tokens(self) -> int:
        """Conditions that are one vector per sample: the timestep, then what the model is built with."""
        optional = (
            self.pools_caption,
            self.num_classes is not None,
            self.condition_on_fps,
            self.condition_on_size is not None,
        )
        return 1 + sum(optional) + len(self.conditions) + len(self.conditioning_latents)

    @property
    def reads_captions(self) -> bool:
        return self.text != "none"

    @property
    def pools_caption(self) -> bool:
        """The mean of the caption's tokens is a condition."""
        return self.reads_captions and self.caption.pooled

    @property
    def shown(self) -> int:
        return self.shown_channels

    @property
    def pictures(self) -> PictureConfig | None:
        return self.picture

    @property
    def num_blocks(self) -> int:
        return self.depth

    def feature_dim(self, block: int) -> int:
        return self.width

    @property
    def pair_cost(self) -> float:
        return self.mixer.pair_cost(self.width)

    @property
    def values_per_token(self) -> float:
        """What the token mixer holds, and the MLP's hidden features."""
        return self.mixer.values_per_token(self.width) + self.mlp_ratio * self.width

    def windows(self, block: int) -> BlockWindows:
        """Windows of the token mixers of block number `block`."""
        return self.mixer.windows(block, self.depth)

    def check_grids(self, clip_ids: Sequence[str], grids: "Tensor", latent_fps: "Tensor") -> None:
        """See that the learned positions reach as far as the samples."""
        resolve_name("train.model.build_layout:check_grids")(clip_ids, grids, latent_fps, self)

    def islands(self, grid: Patch) -> str | None:
        if resolve_name("train.model.build_layout:reaches_all")(self, grid):
            return self.mixer.islands(grid, self.depth)
        if getattr(self.mixer, "pattern", None) == "spatial":
            return (
                f"mixer.pattern spatial, whose blocks stay within frames, and train.model.temporal={self.temporal} in "
                f"{self.depth} blocks (a convolution reaches one frame further in each); set it to attention or both"
            )
        return (
            f"the windows of {self.mixer} in {self.depth} blocks; set train.model.mixer.shift_windows=true, wider "
            "windows (null: a side), or more blocks"
        )

    def prepare(self, batch: "PackedBatch") -> "PackedBatch":
        prepared: PackedBatch = resolve_name("train.model.build_layout:prepare")(batch, self)
        return prepared

    def attends_by_ring(self, num_ranks: int) -> bool:
        """The heads do not divide by the ranks that share a pack: keys go round."""
        return self.mixer.attends_by_ring(self.num_heads, self.depth, num_ranks)

    def check_context(self, num_ranks: int) -> None:
        self.mixer.check_context(self.width, self.num_heads, self.depth, num_ranks)
        if self.mlp == "gated_convolution":
            raise ValueError(
                f"parallel.context is {num_ranks}, and train.model.mlp=gated_convolution reads the patches around a "
                "patch, which may be on another rank; set parallel.context to 1, or mlp to gelu"
            )
        if self.temporal != "none":
            raise ValueError(
                f"parallel.context is {num_ranks}, and train.model.temporal={self.temporal} needs the frames of a "
                "sample on one rank; set parallel.context to 1, or temporal to none and mixer.pattern to "
                "factorized_self_attention"
            )
        if self.attends_by_ring(num_ranks) and any(self.reads_jointly(block) for block in range(self.depth)):
            raise ValueError(
                f"parallel.context is {num_ranks}, which does not divide the {self.num_heads} heads of "
                "model.num_heads, and cross_attention_over is joint, which keys that go round in a ring do not serve; "
                "set parallel.context to a divisor of the heads, or cross_attention_over to context"
            )

    def share(self, batch: "PackedBatch", group: "ContextGroup") -> "PackedBatch":
        part: PackedBatch = resolve_name("train.model.share_layout:shared")(batch, group, self)
        return part

    def build(self, *, channels: int, text_dim: int, num_outputs: int = 1) -> Any:
        sizes = {"channels": channels, "text_dim": text_dim, "num_outputs": num_outputs}
        return resolve_name("train.model.dit:DiT")(self, **sizes)

    @model_validator(mode="before")
    @classmethod
    def _has_no_old_names(cls, settings: Any) -> Any:
        if not isinstance(settings, dict):
            return settings
        found = [f"train.model.{old} is now train.model.{new}" for old, new in MOVED.items() if old in settings]
        if "learn_sigma" in settings:
            found.append(
                "learn_sigma: the objective alone says whether variances are learned; set "
                "train.objective.learn_sigma, and remove it from the model (a folder of train-export or "
                "train-import is written again by the same command)"
            )
        if found:
            raise ValueError("; ".join(found))
        return settings

    @model_validator(mode="after")
    def _is_consistent(self) -> "DiTConfig":
        if self.width % self.num_heads:
            raise ValueError(
                f"got width {self.width} and num_heads {self.num_heads}; expected a multiple of the heads"
            )
        self.mixer.check(width=self.width, num_heads=self.num_heads, depth=self.depth)
        if self.position == "rope" and not self.mixer.rotates:
            raise ValueError(
                f"position rope rotates queries and keys, and mixer {self.mixer.kind} has none; set position to "
                "sincos, absolute or fractional"
            )
        head_width = self.width // self.num_heads
        if self.position == "rope" and (head_width % 2 or head_width < 6):
            raise ValueError(
                f"position rope rotates pairs of each axis of a head, got head width {head_width} (width {self.width} "
                f"of {self.num_heads} heads); expected an even number of at least 6"
            )
        if "attention" in self.temporal_layers and head_width % 2:
            raise ValueError(
                f"temporal {self.temporal} rotates pairs of the features of a head, got head width {head_width} "
                f"(width {self.width} of {self.num_heads} heads); expected an even number, or temporal convolution"
            )
        if self.qk_norm_eps not in (1e-6, LOOSE):
            raise ValueError(f"got qk_norm_eps {self.qk_norm_eps}; expected 1e-6 or {LOOSE}")
        if self.rope_span is not None and (
            self.position != "rope" or self.rope_grid is not None or min(self.rope_span) <= 0
        ):
            raise ValueError(
                f"got rope_span {self.rope_span}, position {self.position}, rope_grid {self.rope_grid}; expected "
                "sides above 0, position rope and no rope_grid"
            )
        if not self.mixer.reads_context and "in_context" in (self.conditioning, self.text):
            raise ValueError(
                f"mixer {self.mixer.kind} shows in-context tokens to the patches near them alone; set conditioning to "
                "adaln_zero, adaln or cross_attention, and text to cross_attention, pooled or none"
            )
        if min(*self.max_grid, *(self.rope_grid or (1,))) < 1:
            raise ValueError(f"got max_grid {self.max_grid}, rope_grid {self.rope_grid}; expected sides above 0")
        if self.position_product and self.position not in ("absolute", "fractional"):
            raise ValueError(f"position_product multiplies learned tables, and position is {self.position}")
        if self.position == "sincos" and self.width % 4:
            raise ValueError(f"position sincos needs a width that 4 divides, got {self.width}")
        if self.condition_on_size is not None and self.width % 3:
            raise ValueError(f"condition_on_size needs a width that 3 divides, got {self.width}")
        if self.adaln != "block" and not self.modulated:
            raise ValueError(f"adaln {self.adaln} needs conditioning adaln or adaln_zero, got {self.conditioning}")
        self._check_positions()
        self._check_captions()
        self._check_cross_attention()
        return self

    def _check_positions(self) -> None:
        """Raises ValueError: settings of a table that is not there, or frames without a block to tell them apart."""
        if self.position != "sincos" and (self.sincos_extent, self.frame_positions) != (None, "input"):
            raise ValueError(
                f"sincos_extent {self.sincos_extent} and frame_positions {self.frame_positions} are of position "
                f"sincos, and position is {self.position}"
            )
        if self.frame_positions == "temporal" and self.first_temporal_block is None:
            raise ValueError(
                f"frame_positions temporal: no block of mixer {self.mixer.kind} mixes along time alone; set "
                "mixer.pattern to alternating or factorized_encoder, or frame_positions to input"
            )

    def _check_captions(self) -> None:
        """Raises ValueError: captions that come in nowhere, or padding that nothing reads."""
        if self.text == "pooled" and not self.caption.pooled:
            raise ValueError("text pooled and caption.pooled false: the caption comes in nowhere; set one of them")
        if self.text_padding is not None and self.text != "cross_attention":
            raise ValueError(f"text_padding is read by cross-attention, and text is {self.text}; leave it out")
        if self.picture is not None and (self.text, self.cross_attention_over) != ("cross_attention", "context"):
            raise ValueError(
                f"picture is read by cross-attention over captions, and text is {self.text}, cross_attention_over "
                f"{self.cross_attention_over}; set them to cross_attention and context, or leave picture out"
            )
        if self.final_adaln == "table" and not self.modulated:
            raise ValueError(f"final_adaln table needs conditioning adaln or adaln_zero, got {self.conditioning}")

    def _check_cross_attention(self) -> None:
        """Raises ValueError: there is none that could be in spatial blocks, or over windows."""
        if self.width % (self.cross_attention_heads or 1):
            raise ValueError(
                f"got width {self.width} and cross_attention_heads {self.cross_attention_heads}; expected a multiple"
            )
        place, read = self.cross_attention_in, self.cross_attention_over
        if (place, read) == ("all", "context"):
            return
        mixer = f"mixer {self.mixer.kind}, pattern {getattr(self.mixer, 'pattern', 'none')}"
        if not self.conditions_in_cross_attention and self.text != "cross_attention":
            raise ValueError(
                f"got cross_attention_in {place} and cross_attention_over {read}, and the model has no "
                "cross-attention; set text or conditioning to cross_attention, or leave them out"
            )
        if not any(self.cross_attends(block) for block in range(self.depth)):
            raise ValueError(
                f"cross_attention_in spatial: no block of {mixer} stays within frames; set mixer.pattern to windows "
                "with a spatial_window of one frame, alternating or factorized_encoder, or cross_attention_in to all"
            )
        has_one_window = all(len(self.windows(b)) == len(self.windows(b)[0]) == 1 for b in range(self.depth))
        if read == "joint" and not (isinstance(self.mixer, AttentionConfig) and has_one_window):
            raise ValueError(
                f"cross_attention_over joint needs attention with one window in each block, got {mixer}; set "
                "mixer.pattern to windows, joint, alternating or factorized_encoder, or cross_attention_over to "
                "context"
            )
