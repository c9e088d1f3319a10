"""Settings of a denoiser that the project does not have. They need no torch."""

from collections.abc import Sequence
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from train.model.base_config import DenoiserConfig
from train.packing.shapes import Patch

if TYPE_CHECKING:
    from torch import Tensor

    from train.packing.batch import PackedBatch


class TokenMLPConfig(DenoiserConfig):
    """Tokens see their timestep and the mean of their segment."""

    kind: Literal["token_mlp"] = "token_mlp"
    width: int = Field(32, ge=1, description="features of a token")
    depth: int = Field(2, ge=1, description="number of blocks")

    @property
    def reads_captions(self) -> bool:
        return False

    @property
    def num_blocks(self) -> int:
        return self.depth

    def feature_dim(self, block: int) -> int:
        return self.width

    @property
    def pair_cost(self) -> float:
        return 0.0

    @property
    def values_per_token(self) -> float:
        return 2 * self.width

    def check_grids(self, clip_ids: Sequence[str], grids: "Tensor", latent_fps: "Tensor") -> None:
        """Any size."""

    def islands(self, grid: Patch) -> str | None:
        return None

    def prepare(self, batch: "PackedBatch") -> "PackedBatch":
        return batch

    def build(self, *, channels: int, text_dim: int, num_outputs: int = 1) -> Any:
        sizes = {"channels": channels, "text_dim": text_dim, "num_outputs": num_outputs}
        return resolve_name("tests.support.members.token_mlp:TokenMLP")(self, **sizes)
