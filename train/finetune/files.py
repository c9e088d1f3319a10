"""Updates of a fine-tuned model as a file of safetensors, without the model.

    LAYER.lora_A.weight (r, D_in)  LAYER.lora_B.weight (D_out, r)  LAYER.alpha ()
    LAYER.lora_magnitude_vector (D_out,): of DoRA
    trained.NAME: a parameter that trained as it is, such as a bias

The update of a layer is alpha / r · B A. The header says of which base it is.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from curate.storage.tensors import write_tensors
from train.finetune.adapt import ADAPTER, adapted_layers

PREFIX = "trained."
PARTS = {
    "lora_A.weight": "down",
    "lora_B.weight": "up",
    "lora_down.weight": "down",
    "lora_up.weight": "up",
    "alpha": "alpha",
    "lora_magnitude_vector": "magnitude",
    "lora_magnitude_vector.weight": "magnitude",
    "dora_scale": "magnitude",
}
"""Endings of names: ours are those of peft and diffusers; ComfyUI and kohya write the others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """Of one linear layer.

    Attributes:
        down: (r, D_in), A.
        up: (D_out, r), B.
        alpha: The update is alpha / r · B A.
        magnitude: (D_out,), lengths of the rows of the updated weight (DoRA); None: they are what they become.
    """

    down: Tensor
    up: Tensor
    alpha: float
    magnitude: Tensor | None = None

    @property
    def rank(self) -> int:
        return len(self.down)


@dataclass(frozen=True, kw_only=True, slots=True)
class Updates:
    """What a file holds.

    Attributes:
        layers: By name of the layer.
        trained: Parameters that trained as they are, by name.
        facts: Of the header: `base` is the fingerprint of the model that is adapted.
    """

    layers: dict[str, Update]
    trained: dict[str, Tensor] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def updates_of(model: nn.Module, facts: Mapping[str, Any]) -> Updates:
    """Of a model that was trained with an adapter.

    Raises:
        ValueError: it has none.
    """
    layers = {}
    for name, layer in adapted_layers(model):
        down, up = layer.lora_A[ADAPTER].weight.detach(), layer.lora_B[ADAPTER].weight.detach()
        vector = layer.lora_magnitude_vector[ADAPTER].weight.detach() if ADAPTER in layer.lora_variant else None
        layers[name] = Update(down=down, up=up, alpha=layer.scaling[ADAPTER] * len(down), magnitude=vector)
    if not layers:
        raise ValueError("the run has no low-rank updates (train.finetune.kind=lora trains them); leave --lora out")
    trained = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad and ".lora_" not in name}
    return Updates(
        layers=layers,
        trained={name.replace(".base_layer.", "."): tensor for name, tensor in trained.items()},
        facts=dict(facts),
    )


def write_updates(path: Path, updates: Updates) -> None:
    """Write our own layout."""
    tensors = {PREFIX + name: tensor for name, tensor in updates.trained.items()}
    for name, one in updates.layers.items():
        tensors |= {f"{name}.lora_A.weight": one.down, f"{name}.lora_B.weight": one.up}
        tensors[f"{name}.alpha"] = torch.tensor(one.alpha)
        if one.magnitude is not None:
            tensors[f"{name}.lora_magnitude_vector"] = one.magnitude
    save(path, tensors, updates.facts)


def save(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    write_tensors(dict(tensors), partial, metadata={"format": "pt", "reelpack": json.dumps(dict(facts))})
    partial.rename(path)


def read_updates(path: Path) -> Updates:
    """Of a file in our layout, or in one whose names differ by layers alone.

    Raises:
        ValueError: there is none, it is empty, or an update lacks one of its matrices.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            facts = json.loads((file.metadata() or {}).get("reelpack", "{}"))
    except (OSError, SafetensorError, ValueError) as error:
        raise ValueError(
            f"{path}: no file of LoRA here ({type(error).__name__}: {error}); expected safetensors, such as "
            "`reelpack train-export RUN --lora FILE` writes"
        ) from error
    if not tensors:
        raise ValueError(f"{path}: holds no tensor; fetch or export the file again")
    trained = {name.removeprefix(PREFIX): tensors.pop(name) for name in list(tensors) if name.startswith(PREFIX)}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        ending = next((ending for ending in PARTS if name.endswith(f".{ending}")), None)
        if ending is None:
            raise ValueError(
                f"{path}: {name} is no part of a low-rank update; expected names that end in A, B or alpha"
            )
        parts.setdefault(name.removesuffix(f".{ending}"), {})[PARTS[ending]] = tensor.float()
    if broken := sorted(name for name, of_layer in parts.items() if not {"down", "up"} <= of_layer.keys()):
        raise ValueError(f"{path}: the update of {broken[0]} lacks A or B; fetch or export the file again")
    layers = {
        name: Update(
            down=part["down"],
            up=part["up"],
            alpha=float(part["alpha"]) if "alpha" in part else float(len(part["down"])),
            magnitude=part["magnitude"].flatten() if "magnitude" in part else None,
        )
        for name, part in parts.items()
    }
    return Updates(layers=layers, trained=trained, facts=facts)
