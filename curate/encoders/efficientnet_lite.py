"""EfficientNet-Lite0, the embedded image backbone: from the packaged checkpoint to timm's model, and its input.

Architecture: Tan & Le 2019 (EfficientNet, arXiv:1905.11946) in the "Lite" variant (no squeeze-and-excitation, ReLU6,
unscaled stem and head). timm calls it `tf_efficientnet_lite0` and pads as TensorFlow does, which the weights expect.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from curate.storage.tensors import tensors_to_bytes

if TYPE_CHECKING:
    import torch

STAGE_DEPTHS = (1, 2, 2, 3, 3, 4, 1)
"""Blocks per stage: the checkpoint counts blocks through, timm counts (stage, block)."""

RESIZE_PX, CROP_PX = 256, 224
CHECKPOINT, STATE_DICT = "efficientnet-lite0-57934424.pth", "model.safetensors"

_OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_SEPARABLE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_INVERTED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def timm_key(key: str) -> str:
    """Name in timm's `tf_efficientnet_lite0` of one entry of an efficientnet-lite-pytorch state dict."""
    inside = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
    if not inside:
        layer, _, leaf = key.partition(".")
        return f"{_OUTSIDE[layer]}.{leaf}"
    block, layer, leaf = int(inside[1]), inside[2], inside[3]
    stage = 0
    while block >= STAGE_DEPTHS[stage]:
        block -= STAGE_DEPTHS[stage]
        stage += 1
    # The first stage does not expand: it is a depthwise-separable block, whose layers timm numbers from its own start.
    names = _SEPARABLE if stage == 0 else _INVERTED
    return f"blocks.{stage}.{block}.{names[layer]}.{leaf}"


def convert_checkpoint(folder: Path) -> None:
    """Replace the packaged checkpoint in `folder` by timm's state dict as safetensors; equal input, equal bytes."""
    import torch

    source = folder / CHECKPOINT
    state = torch.load(source, map_location="cpu", weights_only=True)
    (folder / STATE_DICT).write_bytes(tensors_to_bytes({timm_key(key): value for key, value in state.items()}))
    source.unlink()


def load_efficientnet_lite0(path: Path) -> "torch.nn.Module":
    """timm's `tf_efficientnet_lite0` in eval mode with the state dict at `path`, see `weights.resolve`.

    `model(x)` gives ImageNet-1k logits (N, 1000), `model.forward_features(x)` the last map (N, 1280, H/32, W/32).
    """
    from curate.encoders import torchvision_cpu

    torchvision_cpu.repair()
    import timm
    from safetensors.torch import load_file

    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    model.load_state_dict(load_file(path))
    return model.eval()


def load_classifier(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The last layer alone: weight (1000, 1280) and bias (1000,), float64, of the state dict at `path`."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as state:
        weight, bias = (state.get_tensor(f"classifier.{name}").astype(np.float64) for name in ("weight", "bias"))
    return weight, bias


def normalize(images: np.ndarray) -> "torch.Tensor":
    """(N, H, W, 3) uint8 RGB to the model's input (N, 3, 224, 224) float32.

    As the weights were evaluated: short side to 256 px (bicubic), central crop, (x - 127) / 128. What the crop drops
    is dropped before scaling, because a narrow strip would otherwise grow to gigabytes.
    """
    import torch

    height, width = images.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = images[:, top : top + side, left : left + side].copy()
    x = torch.from_numpy(square).permute(0, 3, 1, 2).float()
    x = torch.nn.functional.interpolate(x, size=(RESIZE_PX, RESIZE_PX), mode="bicubic", antialias=True).clamp(0, 255)
    edge = (RESIZE_PX - CROP_PX) // 2
    return (x[..., edge:-edge, edge:-edge] - 127) / 128
