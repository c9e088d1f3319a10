"""Low-rank updates under the names of diffusers' models, or of ComfyUI, and back.

    transformer.LAYER.lora_A.weight (r, D_in)  transformer.LAYER.lora_B.weight (D_out, r)      diffusers
    diffusion_model.LAYER. …, by the names of the published code, where the family's differ    ComfyUI

alpha / r is multiplied into B: not every reader looks for alpha. What is one layer of ours and two of theirs (keys and
values) shares A; the other way round the two A lie below each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from train.convert import dit
from train.convert.diffusers_folder import family_like
from train.convert.layouts import layer_ties
from train.convert.ties import Tie
from train.finetune.files import Update, Updates
from train.model.dit import DiT
from train.run.load_state import some

Layout: TypeAlias = Literal["diffusers", "comfyui"]
REMEDY = "leave it out of train.finetune.targets, or write the whole model: --out FOLDER --merge --to diffusers"
PREFIXES = ("transformer.", "diffusion_model.", "base_model.model.")


def to_foreign(updates: Updates, model: DiT, layout: Layout) -> dict[str, Tensor]:
    """Tensors of a file of diffusers or ComfyUI.

    Args:
        updates: of the model.
        model: of a family that diffusers has.
        layout: whose names.

    Raises:
        ValueError: something else than updates was trained, layers that are arranged otherwise or have no counterpart,
            or no class of diffusers has such a model.
    """
    there = _family(model)
    if layout == "comfyui" and not there.published:
        raise ValueError(
            f"the names that ComfyUI has for a {there.class_name} are not known; expected a Wan, or --to diffusers"
        )
    if updates.trained:
        raise ValueError(
            f"the run trained {some(updates.trained)} as well, and files of diffusers have updates of layers alone; "
            "write the whole model: --out FOLDER --merge --to diffusers"
        )
    by_layer = {tie.ours: tie for tie in there.ties}
    tensors: dict[str, Tensor] = {}
    for name, update in updates.layers.items():
        tie = by_layer.get(f"{name}.weight")
        if tie is None:
            raise ValueError(f"{name} has no one counterpart in a {there.class_name}; {REMEDY}")
        if not all(form.of_rows for form in tie.forms):
            raise ValueError(f"{name} is arranged otherwise in {tie.theirs[0]} (patches, or a convolution); {REMEDY}")
        ups = tie.give(update.up * (update.alpha / update.rank))
        magnitudes = [None] * len(ups) if update.magnitude is None else tie.give(update.magnitude)
        for their_name, up, magnitude in zip(tie.theirs, ups, magnitudes, strict=True):
            layer = f"transformer.{their_name.removesuffix('.weight')}"
            tensors |= {f"{layer}.lora_A.weight": update.down.clone(), f"{layer}.lora_B.weight": up}
            if magnitude is not None:
                tensors[f"{layer}.lora_magnitude_vector"] = magnitude
    if layout == "diffusers":
        return tensors
    return {_published(name, there.published): tensor for name, tensor in tensors.items()}


def is_foreign(updates: Updates) -> bool:
    """Names begin as those of diffusers or ComfyUI do."""
    return any(name.startswith(PREFIXES) for name in updates.layers)


def from_foreign(updates: Updates, model: DiT) -> Updates:
    """Updates by the names of ours.

    Args:
        updates: as `read_updates` finds them in a file of diffusers or ComfyUI.
        model: what they are for.

    Raises:
        ValueError: a layer that is none of the family's or embeds patches, or a model of no family.
    """
    there = _family(model)
    given = {_of_diffusers(name, there.published): update for name, update in updates.layers.items()}
    layers: dict[str, Update] = {}
    for tie in there.ties:
        if not all(form.of_rows for form in tie.forms):
            continue  # layers whose input is arranged otherwise
        parts = [given.pop(name.removesuffix(".weight"), None) for name in tie.theirs if name.endswith(".weight")]
        if any(part is not None for part in parts):
            layers[tie.ours.removesuffix(".weight")] = _joined(parts, tie)
    if given:
        raise ValueError(
            f"updates of {some(given)} cannot be taken: a {there.class_name} has no such layer, or it embeds "
            "patches; expected a file for this family"
        )
    return replace(updates, layers=layers)


class _Family(NamedTuple):
    """What files call the layers of a model."""

    class_name: str
    published: Mapping[str, str]
    ties: Sequence[Tie]


def _family(model: DiT) -> _Family:
    if model.config.num_classes is not None:
        dit.check_diffusers(model)
        return _Family(dit.DIFFUSERS_CLASS, {}, layer_ties(model.config))
    family, shape = family_like(model)
    return _Family(family.class_name, family.published, family.ties(shape))


def _published(name: str, names: Mapping[str, str]) -> str:
    for theirs, published in names.items():
        name = name.replace(theirs, published)
    return name.replace("transformer.", "diffusion_model.", 1)


def _of_diffusers(name: str, names: Mapping[str, str]) -> str:
    prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), "")
    if prefix != "diffusion_model.":
        return name.removeprefix(prefix)
    name = name.replace(prefix, "transformer.", 1) + "."
    for theirs, published in names.items():
        name = name.replace(published, theirs)
    return name.removeprefix("transformer.").removesuffix(".")


def _joined(parts: Sequence[Update | None], tie: Tie) -> Update:
    """One update of ours from those of their layers, which it stacks; one that is missing adds nothing."""
    there = [part for part in parts if part is not None]
    num_rows, rank = len(there[0].up), sum(part.rank for part in there)
    up = torch.zeros(num_rows * len(parts), rank)
    column = 0
    for number, (part, form) in enumerate(zip(parts, tie.forms, strict=True)):
        if part is not None:
            rows = slice(number * num_rows, (number + 1) * num_rows)
            up[rows, column : column + part.rank] = form.ours(part.up * (part.alpha / part.rank))
            column += part.rank
    magnitudes = [part.magnitude for part in there if part.magnitude is not None]
    if magnitudes and len(magnitudes) < len(parts):
        raise ValueError(f"{', '.join(tie.theirs)}: got DoRA for some of them; expected it for all or for none")
    magnitude = (
        torch.cat([form.ours(m) for form, m in zip(tie.forms, magnitudes, strict=True)]) if magnitudes else None
    )
    return Update(down=torch.cat([part.down for part in there]), up=up, alpha=float(rank), magnitude=magnitude)
