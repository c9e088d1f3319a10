"""A run's first weights, from an exported or imported model: `train.init`.

The folder's model may have fewer parts than the run's; the model's kind says which (`Denoiser.adapted`). What is new
starts without effect: the run begins with the folder's function. Everything else has to agree.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from train.convert.layouts import Tubelet
from train.data.space import described_latents, differing
from train.model.base import Denoiser, described
from train.model.config import ModelConfig
from train.run.given import model_folder
from train.run.load_state import misfits, some

logger = logging.getLogger(__name__)


def initialize(model: Denoiser, folder: str | Path, tubelet: Tubelet) -> set[str]:
    """Fill `model` with the weights of `folder`, a path or `embedded`.

    Returns:
        Names of the weights that the folder does not have, or not in this shape.

    Raises:
        ValueError: no model there, one of another shape (naming what differs), or parts that the run's model has not.
    """
    folder = model_folder(folder)
    source, state = _read(folder)
    config = source.config
    theirs = {name: tensor.shape for name, tensor in state.items()}
    if config.kind != model.config.kind:
        raise ValueError(f"train.init={folder}: got a {config.kind}, and train.model is a {model.config.kind}")
    _check_inputs(folder, source, model)
    try:
        state = model.adapted(config, state, tubelet)
    except ValueError as error:
        raise ValueError(f"train.init={folder}: {error}") from error
    _check(folder, source, state, model)
    model.silence_additions(config)
    model.load_state_dict(model.state_dict() | state)
    if added := sorted(set(model.state_dict()) - set(state)):
        logger.info("%s: the folder has no %s; they start without effect", folder, some(added))
    return {name for name, tensor in model.state_dict().items() if theirs.get(name) != tensor.shape}


def check_latents(folder: str | Path, latents: Mapping[str, Any]) -> None:
    """See that the folder's model was trained in the space of these latents. One that was imported does not say.

    Args:
        folder: as for `initialize`.
        latents: their fingerprint.json.

    Raises:
        ValueError: it was trained in another one.
    """
    try:
        theirs = json.loads((model_folder(folder) / "config.json").read_text()).get("latents") or {}
    except (OSError, ValueError, AttributeError):
        return  # `initialize` says what is wrong
    if different := differing(theirs, latents):
        raise ValueError(
            f"train.init={folder}: its model was trained on latents {described_latents(theirs)}, the dataset has "
            f"{described_latents(latents)}: another latent space ({', '.join(different)} differ). Encode the dataset "
            "with that autoencoder, or set train.init_latents=other: the model then learns the new space"
        )


def _read(folder: Path) -> tuple[Denoiser, dict[str, Tensor]]:
    """The model that is described there, on the meta device, and its weights."""
    try:
        entries = json.loads((folder / "config.json").read_text())
        state = load_file(folder / "model.safetensors")
        with torch.device("meta"):
            model = described(entries)
        if wrong := misfits(model, state):
            raise ValueError(f"model.safetensors is not of the model in config.json: {wrong}")
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise ValueError(
            f"train.init={folder}: no model here ({type(error).__name__}: {error}); expected the config.json and "
            "model.safetensors that `reelpack train-export` and `reelpack train-import` write"
        ) from error
    return model, state


def _check_inputs(folder: Path, source: Denoiser, model: Denoiser) -> None:
    """See that the dataset's latents and token states are of the width that the folder's model reads."""
    if source.channels != model.channels:
        raise ValueError(
            f"train.init={folder}: its model reads latents of {source.channels} channels, the dataset has those of "
            f"{model.channels}; encode it with the model's autoencoder (encode.autoencoder)"
        )
    if source.config.reads_captions and model.config.reads_captions and source.text_dim != model.text_dim:
        raise ValueError(
            f"train.init={folder}: its model reads captions as states of {source.text_dim} features, the dataset has "
            f"those of {model.text_dim}; encode it with the model's text encoder (text.model)"
        )


def _check(folder: Path, source: Denoiser, state: dict[str, Tensor], model: Denoiser) -> None:
    config = source.config
    ours = model.state_dict()
    shapes = [
        f"{name} {tuple(state[name].shape)}, here {tuple(ours[name].shape)}"
        for name in sorted(state.keys() & ours.keys())
        if state[name].shape != ours[name].shape
    ]
    settings = model.config.differing(config)
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


def _renamed(theirs: ModelConfig, ours: ModelConfig) -> bool:
    """Conditions are numbered: those that are added come last."""
    return theirs.conditions != ours.conditions[: len(theirs.conditions)]
