"""AdamW with two parameter groups, and the learning rate as a function of the step."""

import math
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn


class OptimizerConfig(BaseModel):
    """AdamW (Loshchilov & Hutter 2019). DiT trains at a constant 1e-4 without weight decay."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lr: float = Field(1e-4, gt=0, description="peak learning rate")
    betas: tuple[float, float] = Field(
        (0.9, 0.999), description="decay of the first and second moments; these are DiT's"
    )
    weight_decay: float = Field(
        0.0, ge=0, description="on weight matrices; never on biases, norms, labels, positions and what stands for none"
    )
    warmup_steps: int = Field(1000, ge=0, description="steps of linear rise from 0")
    schedule: Literal["constant", "cosine"] = Field("constant", description="after warm-up; cosine falls to 0")
    clip_norm: float = Field(1.0, gt=0, description="largest L2 norm of the gradient")


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    matrices = [p for p in model.parameters() if p.ndim >= 2 and id(p) not in embeddings]
    vectors = [p for p in model.parameters() if p.ndim < 2 or id(p) in embeddings]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)


def learning_rate(step: int, config: OptimizerConfig, num_steps: int) -> float:
    """Rate of step `step`, counted from 0, of `num_steps`."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.lr
    progress = (step - config.warmup_steps) / max(1, num_steps - config.warmup_steps)
    return config.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
