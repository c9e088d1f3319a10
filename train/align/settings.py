"""What settings of alignment share. Nothing here needs torch."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import torch

    from train.data.manifest import Manifest
    from train.packing.shapes import Patch


class AlignSettings(BaseModel, ABC):
    """Whether and how features are aligned. The member's `kind` says to what."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    by_token: ClassVar[bool]
    """The projector takes a row for each token, and not for each sample."""

    kind: str
    weight: float = Field(0.0, ge=0, description="of the alignment loss added to the objective; 0: none. REPA has 0.5")
    block: int = Field(3, ge=0, description="whose output is aligned, counted from 0. REPA has the 8th of 28")
    projector_dim: int = Field(2048, ge=1, description="width of the projector's two hidden layers. REPA has 2048")

    @abstractmethod
    def build(self, manifest: "Manifest", *, width: int, patch: "Patch", seed: int, device: "torch.device") -> Any:
        """The `train.align.base.Alignment`, which is built with these settings.

        Args:
            manifest: of the training clips.
            width: features per token of the aligned block.
            patch: of the model.
            seed: of the projector's weights.
            device: of the worker.

        Raises:
            ValueError: there is nothing that features could be aligned to; says what to do.
        """
