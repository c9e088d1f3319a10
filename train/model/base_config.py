"""Settings of every denoiser: what a run asks of a model before it is built."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from train.packing.shapes import Patch

if TYPE_CHECKING:
    from torch import Tensor

    from train.model.picture_config import PictureConfig
    from train.packing.batch import PackedBatch
    from train.packing.share import ContextGroup

ESTIMATE = "estimate"
"""Conditioning latent of a pack: the model's own estimate of x_0."""


class DenoiserConfig(BaseModel, ABC):
    """Patch and conditions, which all denoisers have, and questions that each answers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    may_differ_from_init: ClassVar[frozenset[str]] = frozenset()
    """Settings that may differ from those of `train.init`: they add parts, or the weights serve both."""

    takes_dropped_tokens: ClassVar[bool] = True
    """Samples may lack some of their tokens (`train.data.epoch.drop`)."""

    patch: Patch = Field((1, 2, 2), description="patch in latent frames, rows, columns")
    num_classes: int | None = Field(None, ge=1, description="class labels; none: no labels")
    condition_on_fps: bool = Field(True, description="the clip's frames per second steer the model")
    conditions: tuple[str, ...] = Field((), description="numbers of a clip that steer the model, such as motion")
    conditioning_latents: dict[str, int] = Field(
        {}, description="further latents that are shown to the model, by name: their channels"
    )
    self_conditioning: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the training samples that are shown the model's own estimate of x_0, of a pass without "
        "gradients; above 0, each step of sampling is shown the estimate of the step before. 0: the model reads none. "
        "Analog Bits has 0.5",
    )

    @property
    @abstractmethod
    def reads_captions(self) -> bool: ...

    @property
    def shown(self) -> int:
        """Channels that are embedded with the noisy ones: of a mask and of the latent of a gray video."""
        return 0

    @property
    def pictures(self) -> "PictureConfig | None":
        """How states of pictures come in, by an image encoder; None: they do not."""
        return None

    @property
    @abstractmethod
    def num_blocks(self) -> int: ...

    @abstractmethod
    def feature_dim(self, block: int) -> int:
        """Features of a token after block number `block`, counted from 0."""

    @property
    @abstractmethod
    def pair_cost(self) -> float:
        """Cost of a pair of tokens of one sample over that of a token: what balances packs."""

    @property
    @abstractmethod
    def values_per_token(self) -> float:
        """Numbers that the largest layer holds for each token while it samples."""

    @abstractmethod
    def check_grids(self, clip_ids: Sequence[str], grids: "Tensor", latent_fps: "Tensor") -> None:
        """See that the model takes samples of these sizes.

        Args:
            clip_ids: S names.
            grids: (S, 3) patches along (t, h, w).
            latent_fps: (S,) frames of the latent per second; 0 for an image.

        Raises:
            ValueError: names one that it does not take.
        """

    @abstractmethod
    def islands(self, grid: Patch) -> str | None:
        """Why patches of a sample of this grid cannot all reach each other, and what to set; None: they can."""

    @abstractmethod
    def prepare(self, batch: "PackedBatch") -> "PackedBatch":
        """The pack with what the model works out ahead, before the pack moves to a GPU."""

    def check_context(self, num_ranks: int) -> None:
        """See that so many ranks can share the tokens of a pack (context parallelism). By default none can.

        Raises:
            ValueError: says why not.
        """
        raise ValueError(
            f"parallel.context is {num_ranks}, and {type(self).__name__.removesuffix('Config')} computes a sample on "
            "one rank; set parallel.context to 1, or model.kind to dit"
        )

    def share(self, batch: "PackedBatch", group: "ContextGroup") -> "PackedBatch":
        """One rank's part of a pack that `prepare` has seen, where `check_context` finds nothing."""
        raise NotImplementedError

    @abstractmethod
    def build(self, *, channels: int, text_dim: int, num_outputs: int = 1) -> Any:
        """The model, a `train.model.base.Denoiser`.

        Args:
            channels: C of the latents.
            text_dim: features of a caption's token states.
            num_outputs: values predicted for each feature of a token.
        """

    def differing(self, theirs: "DenoiserConfig") -> dict[str, tuple[Any, Any]]:
        """Settings by name, there and here, that the weights of a model of the same kind cannot cross."""
        here = self.model_dump(mode="json")
        return {
            name: (value, here[name])
            for name, value in theirs.model_dump(mode="json").items()
            if name not in self.may_differ_from_init and value != here[name]
        }

    @field_validator("patch")
    @classmethod
    def _patch_is_positive(cls, patch: Patch) -> Patch:
        if min(patch) < 1:
            raise ValueError(f"got patch {patch}; expected sides above 0")
        return patch

    @field_validator("conditioning_latents")
    @classmethod
    def _names_are_free(cls, latents: dict[str, int]) -> dict[str, int]:
        if ESTIMATE in latents:
            raise ValueError(f"{ESTIMATE} is the name of the model's own estimate (self_conditioning); take another")
        return latents

    @field_validator("conditions")
    @classmethod
    def _conditions_are_distinct(cls, conditions: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(conditions)) < len(conditions):
            raise ValueError(f"got conditions {conditions}; expected each name once")
        return conditions
