"""Editing a clip by inversion: the noise that the clip would come from, then the sampler under another prompt.

DDIM inversion (Song et al. 2021, §4.3; Dhariwal & Nichol 2021, appendix F) is the sampler along the levels in reverse,
under the clip's own prompt and without guidance; of a flow it is Euler's or Heun's method on the reversed path.
Guidance leads away from the path that was found. Null-text optimization (Mokady et al. 2022, §3.2) fits, step by step,
what stands for no caption, so that sampling under guidance and the clip's own prompt stays on the path.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from train.model.config import ModelConfig
from train.objective.base import Estimate, NoiseLevel, Objective
from train.packing.batch import Sample
from train.sampling.config import SampleConfig
from train.sampling.guidance.compose import Network
from train.sampling.packed import PackedProcess
from train.sampling.samplers.base import ReverseProcess
from train.sampling.samplers.config import AnySampler

NUM_NULL_TOKENS = 16
"""Tokens that stand for no caption where they are optimized. As many copies of the model's one change no attention; a
single one would add the same to all patches of a frame. (The paper's text encoder has 77.)"""
NULL_LR = 1e-2
"""Of Adam, as in the published code, where it falls to half over the steps."""


@torch.no_grad()
def edit(
    model: Network,
    sources: Sequence[Sample],
    edited: Sequence[Sample],
    objective: Objective,
    config: SampleConfig,
    shape: ModelConfig,
    text_dim: int,
    device: torch.device,
    *,
    weaker: tuple[Network, ModelConfig] | None = None,
    negatives: Sequence[Tensor | None] | None = None,
    absent: Tensor | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> list[Tensor]:
    """One latent (C, T, H, W) per clip: its latent led to noise as `sources` have it, and back as `edited` have it.

    With `config.strength` below 1 the way ends at that level.

    Args:
        sources: clips with the captions that they have.
        edited: the same clips with the captions that they get.
        weaker: as of `generate`, on the way back.
        negatives: likewise.
        absent: (D,) what the model reads for no caption, where `config.null_text` says to optimize it.
        on_progress: as of `generate`.

    Raises:
        ValueError: as `generate`.
    """

    if not config.null_text:
        absent = None
    # Shares of the time: of the way to noise, and with what is optimized.
    first, last = (0.5, 0.5) if absent is None else (0.1, 0.9)

    def share(begin: float, end: float, done: float) -> None:
        if on_progress is not None:
            on_progress(begin + (end - begin) * done)

    fixed: dict[str, Any] = {"objective": objective, "shape": shape, "text_dim": text_dim, "device": device}
    back: dict[str, Any] = fixed | {"config": config, "weaker": weaker, "on_progress": partial(share, last, 1.0)}
    plain = config.model_copy(update={"guidance": ()})
    there = PackedProcess(model, sources, config=plain, on_progress=partial(share, first, 0.0), **fixed)
    path = inverted(there, config.sampler)
    if absent is None:
        packed = PackedProcess(model, edited, negatives=negatives, **back)
        return packed.latents(config.sampler.sample(path[0], packed.process))
    nothing: list[Tensor | None] = [torch.zeros(NUM_NULL_TOKENS, text_dim)] * len(sources)
    guided = PackedProcess(model, sources, negatives=nothing, **back | {"on_progress": partial(share, first, last)})
    tokens = null_tokens(guided, config.sampler, path, absent, config.null_text)
    packed, x = PackedProcess(model, edited, negatives=nothing, **back), path[0]
    for own, levels in zip(tokens, pairwise(packed.process.levels), strict=True):
        packed.guided.stand_in(own)
        x = config.sampler.sample(x, replace(packed.process, levels=levels))
    return packed.latents(x)


def inverted(packed: PackedProcess, sampler: AnySampler) -> list[Tensor]:
    """x (L, P) at each level of the process, noise first, on the sampler's way from the latents to noise.

    The model is not asked at the data, for which it has no answer: their noise is what it says of them at the least
    noisy level.
    """
    process, path = packed.process, dict[int, Tensor]()
    *noisy, data = process.levels

    def estimate(x: Tensor, level: NoiseLevel) -> Estimate:
        path[id(level)] = x  # the last x that is asked about: Heun's method tries another before
        if level is not data:
            return process.estimate(x, level)
        noise = process.estimate(x, noisy[-1]).noise
        return Estimate(x_0=x, noise=noise, velocity=noise - x)

    reverse: ReverseProcess = replace(process, levels=[data, *reversed(noisy)], estimate=estimate)
    path[id(noisy[0])] = sampler.sample(packed.clean, reverse)
    return [path[id(level)] for level in process.levels]


def null_tokens(
    packed: PackedProcess, sampler: AnySampler, path: Sequence[Tensor], absent: Tensor, num_iterations: int
) -> list[Tensor]:
    """What stands for no caption in each step, (S, n, D) float32, so that the steps stay on a path.

    Args:
        packed: clips under their own captions and under guidance; for no caption they have n states each.
        sampler: one whose steps ask the model once.
        path: x (L, P) at each level, noise first.
        absent: (D,) what the model reads for no caption, from which the first step begins.
        num_iterations: of Adam, in each step.
    """
    process, x, found = packed.process, path[0], list[Tensor]()
    num_samples = len(packed.mean(x))
    tokens = absent.detach().float().repeat(num_samples, NUM_NULL_TOKENS, 1)  # (S, n, D)
    for number, (levels, target) in enumerate(zip(pairwise(process.levels), path[1:], strict=True)):
        tokens = tokens.clone().requires_grad_()
        optimizer = torch.optim.Adam([tokens], lr=NULL_LR * (1 - number / (2 * len(path))))
        one_step = replace(process, levels=levels)
        packed.guided.stand_in(tokens)
        for _ in range(num_iterations):
            with torch.enable_grad():
                error = packed.mean((sampler.sample(x, one_step) - target).square()).sum()
                (tokens.grad,) = torch.autograd.grad(error, [tokens], allow_unused=True)
            optimizer.step()  # none where guidance has weight 1 at this level
        found.append(tokens.detach())
        packed.guided.stand_in(found[-1])
        x, tokens = sampler.sample(x, one_step), found[-1]
    return found
