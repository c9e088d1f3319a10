"""From noise to data, for all samples of a pack together: a sampler under guidance.

Which pack a sample is in does not change it: its noise is its own, and so are its noise levels where the objective
shifts them by token count.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from train.data.generator import keyed_generator
from train.data.plan import PlanConfig, best_fill
from train.model.config import ModelConfig
from train.objective.base import Estimate, NoiseLevel, Objective
from train.packing.batch import PackedBatch, Sample, pack, unpack
from train.packing.patches import patchify
from train.sampling.config import SampleConfig
from train.sampling.guidance.compose import GuidedModel, Network, Prediction
from train.sampling.samplers.base import ReverseProcess


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
    config.check_objective(objective.config)
    whole = pack(samples, shape.patch, text_dim, shape.conditions)
    segments = whole.segments.to(device)
    free, clean, noise = (x.to(device) for x in (whole.loss_mask[:, None], whole.tokens, whole.noise))
    keys = zip(seeds or [config.seed] * len(samples), samples, strict=True)
    generators = [keyed_generator("ancestral", seed, sample.clip_id) for seed, sample in keys]

    def prediction(network: Network, shape: ModelConfig) -> Prediction:
        def packed(branches: Sequence[Sample]) -> PackedBatch:
            return shape.prepare(pack(branches, shape.patch, text_dim, shape.conditions)).to(device)

        return Prediction(network=network, packed=packed, reads_estimate=shape.self_conditioning > 0)

    def spread(values: Tensor) -> Tensor:
        return segments.gather(values.to(noise.dtype).to(device, non_blocking=True))[:, None]

    def draw_noise() -> Tensor:
        """Of latents, as in training: the copies of a frame that fills a tubelet by being repeated have one noise."""
        drawn = [torch.randn(sample.latent.shape, generator=g) for sample, g in zip(samples, generators, strict=True)]
        return torch.cat([patchify(latent, shape.patch) for latent in drawn]).to(noise)

    guided = GuidedModel(
        prediction(model, shape),
        samples,
        config.guidance,
        config.combination,
        weaker=None if weaker is None else prediction(*weaker),
        negatives=negatives,
    )

    def estimate(x: Tensor, level: NoiseLevel) -> Estimate:
        if on_progress is not None and id(level) in done:
            on_progress(done[id(level)])
        alpha, sigma = spread(level.alpha), spread(level.sigma)
        x = torch.where(free, x, alpha * clean + sigma * noise)  # for branches that drop conditioning frames

        def data_of(output: Tensor, x: Tensor) -> Tensor:
            return objective.estimate(output, x, alpha, sigma).x_0

        found = objective.estimate(guided(x, level, spread, data_of), x, alpha, sigma)
        guided.show(torch.where(free, found.x_0, 0.0))  # in a branch without given frames, too, they have none
        return found

    num_steps = max(1, round(config.strength * config.num_steps))
    levels = objective.levels(config.num_steps, segments.lengths)[-num_steps - 1 :]
    done = {id(level): number / num_steps for number, level in enumerate(levels)}
    x = noise
    if num_steps < config.num_steps:
        x = spread(levels[0].alpha) * clean + spread(levels[0].sigma) * noise
    process = ReverseProcess(levels=levels, estimate=estimate, spread=spread, draw_noise=draw_noise)
    x = torch.where(free, config.sampler.sample(x, process), clean)
    return unpack(x.cpu(), whole, shape.patch)
