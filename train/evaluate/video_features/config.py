"""The family of networks whose features make an FVD: settings of each member, by path. Their classes, which need
torch, are in files of their own."""

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import torch

    from train.evaluate.video_features.base import VideoFeatures


class I3DConfig(BaseModel):
    """I3D as a TorchScript file that is called as that of StyleGAN-V, `i3d_torchscript.pt`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["i3d"] = "i3d"
    path: str = Field(description="TorchScript file; it runs code, so it is to be one that you trust")
    num_frames: int = Field(16, ge=10, description="frames of a clip that are seen; figures of other numbers differ")

    def build(self, device: "torch.device") -> "VideoFeatures":
        features: VideoFeatures = resolve_name("train.evaluate.video_features.i3d:I3D")(self, device)
        return features


class VideoMAEConfig(BaseModel):
    """A VideoMAE of transformers: the mean of its last tokens (Ge et al. 2024, who find it sees motion better)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["videomae"] = "videomae"
    path: str = Field(description="folder of its weights and configuration, or hub id")
    revision: str | None = Field(None, description="commit, branch or tag of a hub id; null: main")

    def build(self, device: "torch.device") -> "VideoFeatures":
        features: VideoFeatures = resolve_name("train.evaluate.video_features.videomae:VideoMAE")(self, device)
        return features


VideoFeaturesConfig = Annotated[
    I3DConfig  # one line per member
    | VideoMAEConfig,
    Field(discriminator="kind"),
]
