"""The family of networks whose features make a Fréchet distance: settings of each member, by path. Their classes,
which need torch, are in files of their own."""

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from curate.encoders.efficientnet import EfficientNetConfig
from curate.encoders.open_clip import OpenClipConfig

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


class FramesConfig(BaseModel):
    """An encoder of pictures: the mean of its features over frames, and of their absolute changes. It is no FVD."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["frames"] = "frames"
    encoder: Annotated[EfficientNetConfig | OpenClipConfig, Field(discriminator="kind")] = Field(
        EfficientNetConfig(), description="the embedded EfficientNet-Lite0, or an open_clip model"
    )
    num_frames: int = Field(8, ge=1, description="frames that are seen, evenly spaced; 1: no change is seen")

    def build(self, device: "torch.device") -> "VideoFeatures":
        features: VideoFeatures = resolve_name("train.evaluate.video_features.frames:Frames")(self, device)
        return features


class InceptionConfig(BaseModel):
    """A network of pictures as a TorchScript file that is called as that of StyleGAN2-ADA, `inception-2015-12-05.pt`:
    the network of published FIDs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["inception"] = "inception"
    path: str = Field(description="TorchScript file; it runs code, so it is to be one that you trust")

    def build(self, device: "torch.device") -> "VideoFeatures":
        features: VideoFeatures = resolve_name("train.evaluate.video_features.inception:Inception")(self, device)
        return features


VideoFeaturesConfig = Annotated[
    I3DConfig  # one line per member
    | VideoMAEConfig
    | FramesConfig
    | InceptionConfig,
    Field(discriminator="kind"),
]
