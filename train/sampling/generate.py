"""From noise to data, for all samples of a pack together: a sampler under guidance.

Which pack a sample is in does not change it: its noise is its own, and so are its noise levels where the objective
shifts them by token count.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from train.data.plan import PlanConfig, best_fill
from train.model.config import ModelConfig
from train.objective.base import Objective
from train.packing.batch import Sample
from train.sampling.config import SampleConfig
from train.sampling.guidance.compose import Network
from train.sampling.packed import PackedProcess


def packs_to_generate(counts: Sequence[int], config: SampleConfig, plan: PlanConfig) -> list[list[int]]:
    """Numbers of samples of so many tokens, in packs that with the branches of guidance stay within the budget."""
    budget = max(1, plan.token_budget // config.num_branches)
    return best_fill(counts, plan.model_copy(update={"token_budget": budget}))


@torch.no_grad()
def generate(
    model: Network,
    samples: Sequence[Sample],
    objective: Objective,
    config: SampleConfig,
    shape: ModelConfig,
    text_dim: int,
    device: torch.device,
    *,
    weaker: tuple[Network, ModelConfig] | None = None,
    negatives: Sequence[Tensor | None] | None = None,
    seeds: Sequence[int] | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> list[Tensor]:
    """One latent (C, T, H, W) per sample, from its noise and under its conditions, all in one pack.

    Conditioning tokens (`Sample.clean_mask`) come out as they are in its latent. With `config.strength` below 1 the
    last steps alone are taken, from its latent with as much noise (SDEdit, Meng et al. 2021, §3).

    Args:
        weaker: the model of autoguidance, of the same patch.
        negatives: token states of a sample's negative prompt; None: it has none.
        seeds: of the noise that a sampler adds to each sample; None: `config.seed` for all.
        on_progress: is told the share of the steps that is done; what it raises ends the sampling.

    Raises:
        ValueError: the sampler does not fit the objective, or takes more steps than the objective has timesteps; there
            is no weaker model for autoguidance.
    """
    packed = PackedProcess(
        model,
        samples,
        objective,
        config,
        shape,
        text_dim,
        device,
        weaker=weaker,
        negatives=negatives,
        seeds=seeds,
        on_progress=on_progress,
    )
    return packed.latents(config.sampler.sample(packed.start, packed.process))
