"""A run's first weights, from an exported or imported model: `train.init`.

The folder's model may have fewer parts than the run's: what is new (captions, labels, rates, numbers) starts without
effect, so that the run begins with the folder's function. An image model becomes one of videos: its patches may become
tubelets (ViViT, Arnab et al. 2021, §3.4), and blocks of one self-attention may get another along time, which starts
without effect, too (Video LDM, Blattmann et al. 2023, §3.1). Another number of classes begins with "no label" in each
of them. Everything else has to agree.
"""

import json
import logging
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from train.convert.dit import silence_additions
from train.convert.layouts import PARTS, Tubelet, inflate_embedding, with_silent_sublayer
from train.model.config import DiTConfig
from train.model.dit import DiT
from train.run.load_state import misfits, some

logger = logging.getLogger(__name__)

MAY_DIFFER = frozenset(
    {
        "attention",
        "patch",
        "pattern",
        "spatial_window",
        "spacetime_window",
        "shift_windows",
        "rope_grid",
        "rope_scaling",
        "reference_fps",
        "text",
        "num_classes",
        "condition_on_fps",
        "conditions",
        "conditioning_latents",
    }
)
"""Settings that may add parts, or under which the same weights are meant to go on."""


def initialize(model: DiT, folder: str | Path, tubelet: Tubelet) -> None:
    """Fill `model` with the weights of `folder`.

    Raises:
        ValueError: no model there, one of another shape (naming what differs), or parts that the run's model has not.
    """
    folder = Path(folder)
    config, state = _read(folder)
    _check_outputs(folder, state, model)
    if state["embed.weight"].shape != model.embed.weight.shape:
        state = _inflated(state, config, model, tubelet)
    gets_temporal = model.config.num_self_attentions > config.num_self_attentions
    if gets_temporal:
        state = _with_temporal_attention(state, config)
    state = _with_classes(state, model)
    _check(folder, config, state, model)
    silence_additions(model)
    if gets_temporal and model.config.conditioning != "adaln_zero":
        _silence_temporal_attention(model)
    model.load_state_dict(model.state_dict() | state)
    if added := sorted(set(model.state_dict()) - set(state)):
        logger.info("%s: the folder has no %s; they start without effect", folder, some(added))


def _read(folder: Path) -> tuple[DiTConfig, dict[str, Tensor]]:
    try:
        entries = json.loads((folder / "config.json").read_text())
        config = DiTConfig.model_validate(entries["model"])
        state = load_file(folder / "model.safetensors")
        with torch.device("meta"):
            sizes = {name: entries[name] for name in ("channels", "text_dim", "num_outputs")}
            described = DiT(config, **sizes)
        if wrong := misfits(described, state):
            raise ValueError(f"model.safetensors is not of the model in config.json: {wrong}")
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise ValueError(
            f"train.init={folder}: no model here ({type(error).__name__}: {error}); expected the config.json and "
            "model.safetensors that `reelpack train-export` and `reelpack train-import` write"
        ) from error
    return config, state


def _check_outputs(folder: Path, state: dict[str, Tensor], model: DiT) -> None:
    """See that the folder's model predicts as many values as the run's."""
    features = state["embed.weight"].shape[1]
    theirs = state["final.linear.bias"].shape[0] // features
    if theirs != model.num_outputs:
        raise ValueError(
            f"train.init={folder}: its model predicts {theirs} values per feature, the run's {model.num_outputs}; set "
            f"train.objective to a DDPM with learn_sigma={str(theirs == 2).lower()}, or leave train.init"
        )


def _inflated(state: dict[str, Tensor], config: DiTConfig, model: DiT, tubelet: Tubelet) -> dict[str, Tensor]:
    """Weights of patches of one frame for patches of several, if that is the difference."""
    (frames, *image), (source_frames, *source_image) = model.config.patch, config.patch
    features = model.channels * image[0] * image[1]
    if source_frames != 1 or image != source_image or state["embed.weight"].shape[1] != features:
        return state
    patches = state["embed.weight"].unflatten(1, (model.channels, *image))  # (D, C, ph, pw)
    inflated = {"embed.weight": inflate_embedding(patches, frames, tubelet).flatten(1)}
    for part in ("weight", "bias"):
        out = state[f"final.linear.{part}"]  # (C ph pw, …), with learned variances twice as many
        out = out.unflatten(0, (-1, 1, image[0] * image[1])).expand(-1, frames, -1, *out.shape[1:])
        inflated[f"final.linear.{part}"] = out.flatten(0, 2).contiguous()
    return state | inflated


def _with_temporal_attention(state: dict[str, Tensor], config: DiTConfig) -> dict[str, Tensor]:
    """Modulation of blocks that get a second self-attention: its gate is zero, and so are its scale and shift."""
    if not config.modulated:
        return state
    own = {"block": "modulation.linear", "lora": "modulation.linear.1", "shared": "modulation.linear"}[config.adaln]
    names = [f"blocks.{block}.{own}" for block in range(config.depth)]
    names += [] if config.adaln == "block" else ["shared_modulation"]
    whole = [f"{name}.{part}" for name in names for part in PARTS if f"{name}.{part}" in state]
    return state | {name: with_silent_sublayer(state[name]) for name in whole}


@torch.no_grad()
def _silence_temporal_attention(model: DiT) -> None:
    """Where it has no gate."""
    for block in model.blocks:
        block.self_attentions[1].out.weight.zero_()


def _with_classes(state: dict[str, Tensor], model: DiT) -> dict[str, Tensor]:
    """Tables of as many classes as the run has: each begins as the folder's row for "no label", its last."""
    ours = model.state_dict()
    tables = [name for name in state.keys() & ours.keys() if name.endswith(".label.table.weight")]
    others = [name for name in tables if len(state[name]) != len(ours[name])]
    for name in others:
        logger.info("%s: %d classes there, %d here: all begin anew", name, len(state[name]) - 1, len(ours[name]) - 1)
    return state | {name: state[name][-1:].expand(len(ours[name]), -1).clone() for name in others}


def _check(folder: Path, config: DiTConfig, state: dict[str, Tensor], model: DiT) -> None:
    ours, here = model.state_dict(), model.config.model_dump(mode="json")
    shapes = [
        f"{name} {tuple(state[name].shape)}, here {tuple(ours[name].shape)}"
        for name in sorted(state.keys() & ours.keys())
        if state[name].shape != ours[name].shape
    ]
    settings = {
        name: (theirs, mine)
        for name, theirs in config.model_dump(mode="json").items()
        if name not in MAY_DIFFER and theirs != (mine := here[name])
    }
    unknown = sorted(set(state) - set(ours))
    if not (shapes or settings or unknown or _renamed(config, model.config)):
        return
    problems: list[str] = []
    if settings:
        told = [
            f"train.model.{name}={json.dumps(theirs)} (here {json.dumps(mine)})"
            for name, (theirs, mine) in settings.items()
        ]
        problems.append(f"its model has {', '.join(told)}")
    if _renamed(config, model.config):
        problems.append(f"its conditions {config.conditions} do not come first in {model.config.conditions}")
    if unknown:
        problems.append(f"the run's model has no {some(unknown)}")
    if shapes:
        problems.append(f"other shapes: {some(shapes)}")
    raise ValueError(f"train.init={folder}: {'; '.join(problems)}. Set the model as it is there, or leave train.init")


def _renamed(theirs: DiTConfig, ours: DiTConfig) -> bool:
    """Conditions are numbered: those that are added come last."""
    return theirs.conditions != ours.conditions[: len(theirs.conditions)]
