"""Updates of files on a model that samples, each at its own strength: `reelpack sample RUN --lora FILE:0.8`."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from train.finetune.adapt import adapted_layers, add_adapter
from train.finetune.files import Updates, read_updates
from train.finetune.foreign import from_foreign, is_foreign
from train.finetune.targets import Rank, linear_layers
from train.model.dit import DiT
from train.run.load_state import some

logger = logging.getLogger(__name__)


def path_and_strength(given: str) -> tuple[Path, float]:
    """Of `FILE` or `FILE:0.8`."""
    path, separator, number = given.rpartition(":")
    try:
        return (Path(path), float(number)) if separator else (Path(given), 1.0)
    except ValueError:
        return Path(given), 1.0  # a colon in the file's name


@torch.no_grad()
def apply_updates(model: nn.Module, given: Sequence[str], base: str) -> None:
    """Add the updates of files; they stay beside the weights, which are not changed.

    Args:
        model: changed in place.
        given: `FILE:STRENGTH`, each with 1 where no strength is given.
        base: fingerprint of the model without updates.

    Raises:
        ValueError: a file is of another base, names layers that the model does not have, or of another shape.
    """
    active = [name for _, layer in adapted_layers(model) for name in layer.active_adapters][:1]
    for number, one in enumerate(given):
        path, strength = path_and_strength(one)
        updates = read_updates(path)
        if is_foreign(updates) and isinstance(model, DiT):
            updates = _translated(path, updates, model)
        _check(path, updates, model, base)
        for dora in (False, True):
            layers = {name: u for name, u in updates.layers.items() if (u.magnitude is not None) == dora}
            if not layers:
                continue
            adapter = f"file{number}{'d' * dora}"
            ranks = {name: Rank(rank=u.rank, alpha=u.alpha) for name, u in layers.items()}
            add_adapter(model, ranks, adapter, dora=dora)
            active.append(adapter)
            for name, layer in adapted_layers(model):
                if (update := layers.get(name)) is not None:
                    layer.lora_A[adapter].weight.copy_(update.down)
                    layer.lora_B[adapter].weight.copy_(update.up)
                    layer.scaling[adapter] = strength * update.alpha / update.rank
                    if update.magnitude is not None:
                        layer.lora_magnitude_vector[adapter].weight.copy_(update.magnitude)
        own = plain_parameters(model)
        for name, tensor in updates.trained.items():
            own[name].copy_(torch.lerp(own[name], tensor.to(own[name].dtype), strength))
    for _, layer in adapted_layers(model):
        layer.set_adapter(active)
    model.requires_grad_(False)


def _translated(path: Path, updates: Updates, model: DiT) -> Updates:
    try:
        return from_foreign(updates, model)
    except ValueError as error:
        raise ValueError(
            f"{path}: has names of diffusers or ComfyUI, which this model cannot take ({error}); expected updates of "
            "its own base"
        ) from error


def plain_parameters(model: nn.Module) -> Mapping[str, Tensor]:
    """Without those of adapters, by the names that they have where there are none."""
    named = model.named_parameters()
    return {name.replace(".base_layer.", "."): p for name, p in named if ".lora_" not in name}


def _check(path: Path, updates: Updates, model: nn.Module, base: str) -> None:
    theirs = updates.facts.get("base")
    if theirs is not None and theirs != base:
        raise ValueError(
            f"{path} adapts a model of fingerprint {theirs[:12]} (base {updates.facts.get('folder', 'not named')}), "
            f"and this run's is {base[:12]}; sample from the run of that base, or export the updates of this one"
        )
    layers, parameters = linear_layers(model), plain_parameters(model)
    unknown = sorted((updates.layers.keys() - layers.keys()) | (updates.trained.keys() - parameters.keys()))
    if unknown:
        raise ValueError(
            f"{path}: the model has no {some(unknown)}; it has {some(layers)}. The updates are of a model of another "
            "shape"
        )
    sizes = {name: (u.up.shape[0], u.down.shape[1]) for name, u in updates.layers.items()}
    wrong = [
        f"{name} {size} (the model has {tuple(layers[name].weight.shape)})"
        for name, size in sizes.items()
        if size != tuple(layers[name].weight.shape)
    ]
    wrong += [
        f"{name} {tuple(tensor.shape)} (the model has {tuple(parameters[name].shape)})"
        for name, tensor in updates.trained.items()
        if tensor.shape != parameters[name].shape
    ]
    if wrong:
        raise ValueError(f"{path}: of another shape are {some(wrong)}; the updates are of another model")
    if theirs is None:
        logger.warning("%s does not say of which base its updates are; the shapes fit", path)
