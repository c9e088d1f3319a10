"""Data N(mean, std²): the exact estimate at every noise level is known, and so is where a sampler ends."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from train.objective.base import Estimate, NoiseLevel, Objective
from train.sampling.samplers.base import ReverseProcess

MEAN, STD = 1.5, 0.4


def exact(x: Tensor, alpha: Tensor, sigma: Tensor, mean: float = MEAN, std: float = STD) -> Estimate:
    """E[x_0 | x_t] and the ε that goes with it."""
    x_0 = mean + alpha * std**2 / (alpha**2 * std**2 + sigma**2) * (x - alpha * mean)
    noise = (x - alpha * x_0) / sigma
    return Estimate(x_0=x_0, noise=noise, velocity=noise - x_0)


def prediction(objective: Objective, found: Estimate, alpha: Tensor, sigma: Tensor) -> Tensor:
    """What a model of this objective predicts."""
    config: Any = objective.config
    return {
        "velocity": found.velocity,
        "epsilon": found.noise,
        "x0": found.x_0,
        "v": alpha * found.noise - sigma * found.x_0,
    }[getattr(config, "prediction", "velocity")]


def process(
    objective: Objective,
    num_steps: int,
    model: Callable[[Tensor, NoiseLevel], Tensor],
    noises: Iterator[Tensor] | None = None,
    dtype: torch.dtype = torch.float64,
) -> ReverseProcess:
    """Of one segment of any length under `model`, whose output is what the objective has it predict."""

    def spread(values: Tensor) -> Tensor:
        return values.to(dtype)[:, None]  # (1, 1)

    def estimate(x: Tensor, level: NoiseLevel) -> Estimate:
        return objective.estimate(model(x, level), x, spread(level.alpha), spread(level.sigma))

    levels = objective.levels(num_steps, [16])
    return ReverseProcess(levels=levels, estimate=estimate, spread=spread, draw_noise=lambda: next(noises or iter(())))


def target(objective: Objective, x: Tensor) -> Tensor:
    """Where the probability flow, which is affine, leads from x at the first level."""
    first = objective.levels(1, [16])[0]
    return MEAN + STD * (x - first.alpha * MEAN) / (first.alpha**2 * STD**2 + first.sigma**2).sqrt()
