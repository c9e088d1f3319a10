"""The optimizers of a run, and the learning rate as a function of the step."""

import math
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from itertools import chain
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.optim import Optimizer

from train.optim.trainable import trainable_parameters
from train.run.config import OptimizerConfig

MUON_MOMENTUM = 0.95
"""Jordan et al. 2024."""
MOMENT_BYTES = {"adamw": 8, "muon": 4, "adamw_8bit": 2, "paged_adamw_8bit": 2}
"""Of a parameter."""


class Optimizers:
    """Several optimizers that step together, each over parameters of its own."""

    def __init__(self, members: Sequence[Optimizer]) -> None:
        self.members = tuple(members)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return list(chain.from_iterable(member.param_groups for member in self.members))

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Of the last member, which takes parameters of any shape."""
        self.members[-1].add_param_group(group)

    def step(self) -> None:
        for member in self.members:
            member.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        for member in self.members:
            member.zero_grad(set_to_none=set_to_none)


AnyOptimizer: TypeAlias = Optimizer | Optimizers


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> AnyOptimizer:
    """The optimizer over the trainable parameters: weight decay on matrices, none on vectors and embeddings.

    Raises:
        ValueError: the package of an 8-bit optimizer is not installed, or the model is sharded.
    """
    if config.kind != "muon":
        return _adamw(config)(_groups(trainable_parameters(model).values(), model, config))
    hidden = {id(p) for p in hidden_matrices(model)}
    rest = _groups((p for p in trainable_parameters(model).values() if id(p) not in hidden), model, config)
    # Scaled to the size of AdamW's updates, so that both take one learning rate (Liu et al. 2025, arXiv:2502.16982).
    settings = {"weight_decay": config.weight_decay, "momentum": MUON_MOMENTUM, "adjust_lr_fn": "match_rms_adamw"}
    muon = [torch.optim.Muon(hidden_matrices(model), lr=config.lr, **settings)] if hidden else []
    return Optimizers([*muon, *([_adamw(config)(rest)] if rest else [])])


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """Trainable matrices inside the blocks: those that Muon is for (Jordan et al. 2024). What embeds, the last layer
    and vectors are AdamW's."""
    embeddings = _embeddings(model)
    named = trainable_parameters(model).items()
    return [p for name, p in named if name.startswith("blocks.") and p.ndim == 2 and id(p) not in embeddings]


def moment_bytes(model: nn.Module, config: OptimizerConfig) -> int:
    """What the optimizer keeps of all trainable parameters, in addition to them and their gradients."""
    hidden = sum(p.numel() for p in hidden_matrices(model)) if config.kind == "muon" else 0
    rest = sum(p.numel() for p in trainable_parameters(model).values()) - hidden
    others = "adamw" if config.kind == "muon" else config.kind
    return MOMENT_BYTES["muon"] * hidden + MOMENT_BYTES[others] * rest


def _groups(parameters: Iterable[nn.Parameter], model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    embeddings, trained = _embeddings(model), list(parameters)
    matrices = [p for p in trained if p.ndim >= 2 and id(p) not in embeddings]
    vectors = [p for p in trained if p.ndim < 2 or id(p) in embeddings]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _embeddings(model: nn.Module) -> set[int]:
    return {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}


def _adamw(config: OptimizerConfig) -> Callable[[list[dict[str, Any]]], Optimizer]:
    settings = {"lr": config.lr, "betas": config.betas}
    if config.kind in ("adamw", "muon"):
        return lambda groups: torch.optim.AdamW(groups, **settings, fused=True)
    check_package(config)
    import bitsandbytes

    kind = {"adamw_8bit": bitsandbytes.optim.AdamW8bit, "paged_adamw_8bit": bitsandbytes.optim.PagedAdamW8bit}
    return lambda groups: kind[config.kind](groups, **settings)


def check_package(config: OptimizerConfig) -> None:
    """See that the optimizer can run here.

    Raises:
        ValueError: its package is not installed, or there is no GPU, without which it has no kernels.
    """
    if not config.kind.endswith("8bit"):
        return
    if find_spec("bitsandbytes") is None:
        raise ValueError(
            f"train.optimizer.kind is {config.kind}, and bitsandbytes is not installed; pip install "
            "'reelpack[quantized]', or set train.optimizer.kind=adamw"
        )
    if not torch.cuda.is_available():
        raise ValueError(
            f"train.optimizer.kind is {config.kind}, whose kernels are for GPUs, and there is none; set "
            "train.optimizer.kind=adamw"
        )


def learning_rate(step: int, config: OptimizerConfig, num_steps: int) -> float:
    """Rate of step `step`, counted from 0, of `num_steps`."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.lr
    progress = (step - config.warmup_steps) / max(1, num_steps - config.warmup_steps)
    return config.lr * 0.5 * (1 + math.cos(math.pi * progress))
