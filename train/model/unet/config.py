"""The shape of a U-Net, checked before anything is built."""

from collections.abc import Sequence
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from pydantic import Field, model_validator

from train.model.base_config import DenoiserConfig
from train.packing.shapes import Patch

if TYPE_CHECKING:
    from torch import Tensor

    from train.packing.batch import PackedBatch

Way: TypeAlias = Literal["down", "middle", "up"]


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockShape:
    """One block: where it stands, and its widths."""

    way: Way
    level: int  # resolution: 0 is that of the patches, each further one has half as many rows and columns
    changes_level: bool  # it begins with the change from the level before
    in_width: int
    width: int

    @property
    def skip_width(self) -> int:
        """Of the block on the way down whose output it reads as well."""
        return self.width if self.way == "up" else 0


class UNetConfig(DenoiserConfig):
    """3-D U-Net of space-time separable blocks."""

    may_differ_from_init: ClassVar[frozenset[str]] = frozenset(
        {"temporal", "text", "num_classes", "condition_on_fps", "conditions"}
        | {"conditioning_latents", "self_conditioning"}
    )
    takes_dropped_tokens: ClassVar[bool] = False

    kind: Literal["unet"] = "unet"
    patch: Patch = Field((1, 1, 1), description="patch in latent frames, rows, columns; convolutions are over patches")
    width: int = Field(128, ge=1, description="channels at the first level, the resolution of the patches")
    multipliers: tuple[int, ...] = Field(
        (1, 2, 3, 4),
        min_length=1,
        description="channels of each level over width; a level has half the rows and columns of the one before, "
        "rounded up",
    )
    depths: tuple[int, ...] = Field((2, 2, 2, 2), description="blocks of each level on the way down, and up again")
    attention_levels: tuple[int, ...] = Field(
        (1, 2, 3),
        description="levels with attention within frames, counted from 0. Imagen Video's models for super-resolution "
        "have none at the first",
    )
    temporal: Literal["attention", "convolution", "none"] = Field(
        "attention",
        description="what mixes frames in every block; images skip it. Imagen Video: attention in the base model, "
        "convolution in models for super-resolution",
    )
    head_width: int = Field(64, ge=2, multiple_of=2, description="channels of an attention head")
    num_groups: int = Field(32, ge=1, description="groups of channels that are normalised together, within a frame")
    condition_width: int = Field(512, ge=1, description="features of the condition vector and of caption tokens")
    text: Literal["cross_attention", "pooled", "none"] = Field(
        "cross_attention",
        description="how the caption's tokens come in; cross_attention: in every block; pooled: only their mean",
    )
    timestep_scale: float = Field(1000.0, gt=0, description="timesteps are multiplied by it before their sinusoids")

    @property
    def reads_captions(self) -> bool:
        return self.text != "none"

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(self.width * multiplier for multiplier in self.multipliers)

    @property
    def block_shapes(self) -> tuple[BlockShape, ...]:
        """Way down, two blocks at the coarsest level, way up."""
        last = len(self.widths) - 1
        down: list[tuple[Way, int, int]] = [
            ("down", level, i) for level, n in enumerate(self.depths) for i in range(n)
        ]
        up: list[tuple[Way, int, int]] = [
            ("up", level, i) for level in range(last, -1, -1) for i in range(self.depths[level])
        ]
        shapes, width = list[BlockShape](), self.width
        for way, level, i in [*down, ("middle", last, 1), ("middle", last, 1), *up]:
            changes = i == 0 and level != (0 if way == "down" else last)
            shapes.append(
                BlockShape(way=way, level=level, changes_level=changes, in_width=width, width=self.widths[level])
            )
            width = self.widths[level]
        return tuple(shapes)

    @property
    def num_blocks(self) -> int:
        return len(self.block_shapes)

    def feature_dim(self, block: int) -> int:
        return self.block_shapes[block].width

    @property
    def pair_cost(self) -> float:
        """Frames attend within themselves, and cost is about linear in the frames and in the tokens of a sample."""
        return 0.0

    @property
    def values_per_token(self) -> float:
        """Outputs of the way down, and what the largest block holds on top: its input, and that again normalised."""
        kept = sum(shape.width / 4**shape.level for shape in self.block_shapes if shape.way == "down")
        return kept + max(2 * (s.in_width + s.skip_width) / 4**s.level for s in self.block_shapes)

    def check_grids(self, clip_ids: Sequence[str], grids: "Tensor", latent_fps: "Tensor") -> None:
        """Any size: a side is halved to the next larger number, and doubled to the one that it was."""

    def islands(self, grid: Patch) -> str | None:
        frames, *sides = grid
        if frames > 1 and self.temporal == "none":
            return "train.model.temporal=none; set it to attention or convolution"
        if self.temporal == "convolution" and self.num_blocks < frames - 1:
            return (
                f"temporal convolutions of {self.num_blocks} blocks, which reach one frame further each; set "
                "train.model.temporal=attention, or more train.model.depths"
            )
        if not self.attention_levels and self._reach < max(sides) - 1:
            return (
                f"convolutions that reach {self._reach} patches; set train.model.attention_levels="
                f"[{len(self.depths) - 1}], or more train.model.multipliers and depths"
            )
        return None

    @property
    def _reach(self) -> int:
        """Patches that a row or column hears of in each direction by convolutions alone."""
        return sum((2 + shape.changes_level) * 2**shape.level for shape in self.block_shapes) + 2

    def check_context(self, num_ranks: int) -> None:
        raise ValueError(
            f"parallel.context is {num_ranks}, and the convolutions of model.kind unet need a picture on one rank; "
            "set parallel.context to 1 (activation_checkpoint_every and fsdp lower a rank's memory), or model.kind to "
            "dit"
        )

    def prepare(self, batch: "PackedBatch") -> "PackedBatch":
        prepared: PackedBatch = resolve_name("train.model.unet.pyramid:prepare")(batch, self)
        return prepared

    def build(self, *, channels: int, text_dim: int, num_outputs: int = 1) -> Any:
        sizes = {"channels": channels, "text_dim": text_dim, "num_outputs": num_outputs}
        return resolve_name("train.model.unet.network:UNet")(self, **sizes)

    @model_validator(mode="after")
    def _is_consistent(self) -> "UNetConfig":
        if len(self.depths) != len(self.multipliers) or min(*self.depths, *self.multipliers) < 1:
            raise ValueError(
                f"got multipliers {self.multipliers} and depths {self.depths}; expected one of each per level, above 0"
            )
        levels = range(len(self.multipliers))
        if set(self.attention_levels) - set(levels):
            raise ValueError(f"got attention_levels {self.attention_levels}; expected some of {tuple(levels)}")
        for name, divisor in (("num_groups", self.num_groups), ("head_width", self.head_width)):
            if any(width % divisor for width in self._divided_by(name)):
                raise ValueError(
                    f"got {name} {divisor} and {self.widths} channels per level (width times multipliers); expected "
                    f"multiples of {name}"
                )
        return self

    def _divided_by(self, name: str) -> tuple[int, ...]:
        attends_everywhere = self.text == "cross_attention" or self.temporal == "attention"
        if name == "num_groups" or attends_everywhere:
            return self.widths
        return tuple(self.widths[level] for level in self.attention_levels)
