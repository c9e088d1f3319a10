"""Settings of alignment by clip."""

from pkgutil import resolve_name
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from train.align.settings import AlignSettings

if TYPE_CHECKING:
    import torch

    from train.align.base import Alignment
    from train.data.manifest import Manifest
    from train.packing.shapes import Patch


class PooledConfig(AlignSettings):
    """The mean over a clip's tokens, to the embedding that curation has stored of it."""

    by_token: ClassVar[bool] = False
    kind: Literal["pooled"] = "pooled"
    embedding: str = Field("auto", description="score family of the clips' embeddings; auto: the only one")

    def build(
        self, manifest: "Manifest", *, width: int, patch: "Patch", seed: int, device: "torch.device"
    ) -> "Alignment":
        del patch, device
        alignment: Alignment = resolve_name("train.align.pooled:of_manifest")(self, manifest, width, seed)
        return alignment
