"""What globs name: linear layers that get adapters, and parameters that train."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

from torch import nn

from train.finetune.config import LoraConfig
from train.run.load_state import some

ADDED = "added"
"""In `train.trainable`: no glob, but what the base lacks alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rank:
    """Of one layer's update, which is times alpha / rank (alpha / √rank with rsLoRA)."""

    rank: int
    alpha: float


def linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """By name; not those inside adapters."""
    found = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    return {name.removesuffix(".base_layer"): layer for name, layer in found.items() if ".lora_" not in name}


def ranks_of(model: nn.Module, config: LoraConfig) -> dict[str, Rank]:
    """Linear layers of the model that get an adapter, by name.

    Raises:
        ValueError: a glob names none that is left, or a rank is above a layer's width.
    """
    layers, ranks = linear_layers(model), named_ranks(model, config)
    wide = {n: (one.rank, layers[n]) for n, one in ranks.items() if one.rank > min(layers[n].weight.shape)}
    if wide:
        told = [f"{n} (rank {r}, {layer.in_features} to {layer.out_features})" for n, (r, layer) in wide.items()]
        raise ValueError(
            f"train.finetune: a rank above a layer's width is no low-rank update: {some(told)}; lower the rank of "
            "these targets, or train them in full (train.trainable)"
        )
    return ranks


def named_ranks(model: nn.Module, config: LoraConfig) -> dict[str, Rank]:
    """Of the layers that the globs name.

    Raises:
        ValueError: a glob names none that is left.
    """
    layers, ranks = linear_layers(model), dict[str, Rank]()
    for glob, target in config.targets.items():
        named = [name for name in layers if fnmatchcase(name, glob)]
        if not named:
            raise ValueError(f"train.finetune.targets: {_no_match(glob, layers, 'linear layer')}")
        new = [name for name in named if name not in ranks]
        if not new:
            raise ValueError(
                f"train.finetune.targets: every layer of {glob} is of a glob before it; put {glob} first, or leave "
                "it out"
            )
        rank, alpha = config.of(target)
        ranks |= dict.fromkeys(new, Rank(rank=rank, alpha=alpha))
    return ranks


def named_parameters(parameters: Mapping[str, nn.Parameter], globs: Iterable[str]) -> set[str]:
    """Names of the parameters that `train.trainable` lets train.

    Raises:
        ValueError: a glob names none.
    """
    found = set[str]()
    for glob in (glob for glob in globs if glob != ADDED):
        named = {name for name in parameters if fnmatchcase(name, glob)}
        if not named:
            raise ValueError(f"train.trainable: {_no_match(glob, parameters, 'parameter')}")
        found |= named
    return found


def _no_match(glob: str, names: Iterable[str], what: str) -> str:
    """Says which there are: one of each kind, and those nearest to the glob."""
    names = list(names)
    kinds = dict.fromkeys(".".join("*" if part.isdecimal() else part for part in name.split(".")) for name in names)
    near = get_close_matches(glob, [*kinds, *names], n=3, cutoff=0.5)
    shown = ", ".join(near) if near else some(kinds)
    return f"{glob} matches no {what} of the model; it has {shown}"
