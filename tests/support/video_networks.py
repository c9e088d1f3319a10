"""Tiny networks of videos: what the published ones are called as, without what they have learned."""

from pathlib import Path

import torch
from torch import Tensor, nn

from curate.encoders import torchvision_cpu


class TinyI3D(nn.Module):
    """Called as StyleGAN-V's I3D."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv3d(3, 6, 3, stride=2)

    def forward(self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False) -> Tensor:
        if rescale:
            x = 2 * x / 255 - 1
        x = self.layer(x).relu().mean([2, 3, 4])
        return x if return_features else x.softmax(1)


def write_i3d(file: Path) -> Path:
    torch.manual_seed(0)
    torch.jit.script(TinyI3D()).save(str(file))
    return file


class TinyInception(nn.Module):
    """Called as StyleGAN2-ADA's InceptionV3."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 6, 3, stride=2)

    def forward(self, img: Tensor, return_features: bool = False) -> Tensor:
        x = self.layer(img.float() / 127.5 - 1).relu().mean([2, 3])
        return x if return_features else x.softmax(1)


def write_inception(file: Path) -> Path:
    torch.manual_seed(0)
    torch.jit.script(TinyInception()).save(str(file))
    return file


def write_videomae(folder: Path) -> Path:
    torchvision_cpu.repair()
    from transformers import VideoMAEConfig, VideoMAEImageProcessor, VideoMAEModel

    torch.manual_seed(0)
    config = VideoMAEConfig(
        image_size=32, patch_size=16, num_frames=4, tubelet_size=2, hidden_size=16, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=32,
    )  # fmt: skip
    VideoMAEModel(config).save_pretrained(folder)
    VideoMAEImageProcessor(image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.2, 0.2]).save_pretrained(folder)
    return folder
