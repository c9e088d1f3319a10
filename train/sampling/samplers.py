"""From noise to data, for all segments of a pack together, with classifier-free guidance.

A flow is integrated by Euler's or Heun's method; each segment has its own timesteps where the objective shifts them
by token count. A DDPM is sampled by DDIM, by DPM-Solver++, or ancestrally, with the learned variances where there are.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from train.data.generator import keyed_generator
from train.data.plan import PlanConfig, best_fill
from train.model.config import DiTConfig, Patch
from train.model.patterns import prepare
from train.objective.base import Objective
from train.objective.ddpm import DDPM, betas, posterior
from train.objective.flow import RectifiedFlow
from train.packing.batch import PackedBatch, Sample, latent_shapes, pack, unpack
from train.packing.patches import patchify
from train.packing.segments import Segments
from train.run.config import SampleConfig

Predict = Callable[[Tensor, Tensor], Tensor]
"""(x (L, P), timesteps (S,)) to what the model predicts, (L, P), or with learned variances (L, 2 P)."""

Network = Callable[[Tensor, Tensor, PackedBatch], Tensor]


def packs_to_generate(counts: Sequence[int], config: SampleConfig, plan: PlanConfig) -> list[list[int]]:
    """Numbers of samples of so many tokens, in packs that with what guidance adds stay within the budget."""
    budget = max(1, plan.token_budget // config.num_halves)
    return best_fill(counts, plan.model_copy(update={"token_budget": budget}))


def generate(
    model: Network,
    samples: Sequence[Sample],
    objective: Objective,
    config: SampleConfig,
    shape: DiTConfig,
    text_dim: int,
    device: torch.device,
) -> list[Tensor]:
    """One latent (C, T, H, W) per sample, from its noise and under its conditions, all in one pack.

    Raises:
        ValueError: the sampler is not one of the objective's.
    """
    without = [replace(sample, text=None, label=None) for sample in samples]
    both = {0.0: without, 1.0: [*samples]}.get(config.guidance, [*samples, *without])
    batch = prepare(pack(both, shape.patch, text_dim, shape.conditions), shape).to(device)
    x = guided(model, batch, objective, config, shape.patch).repeat(config.num_halves, 1)
    return unpack(x.cpu(), batch, shape.patch)[: len(samples)]


@torch.no_grad()
def guided(model: Network, batch: PackedBatch, objective: Objective, config: SampleConfig, patch: Patch) -> Tensor:
    """Sample a pack whose second half of segments repeats the first without captions (at guidance 0 and 1, a pack).

    Given tokens stay as they are. Both halves stay at the same x, moved by y = y_none + guidance · (y_caption -
    y_none) (Ho & Salimans 2022), where y is what the model predicts. Learned variances are those under the caption,
    as in DiT's code.

    Returns:
        (L, P) at t = 0, of the first half.

    Raises:
        ValueError: the sampler is not one of the objective's.
    """
    halves = config.num_halves
    lengths = batch.segments.lengths[: batch.segments.num_segments // halves]
    segments = Segments.of(lengths, batch.noise.device)
    start, clean = batch.noise[: segments.num_tokens], batch.tokens[: segments.num_tokens]  # 2 × (L, P)
    free = batch.loss_mask[: segments.num_tokens, None]  # (L, 1)

    def hold(x: Tensor) -> Tensor:
        return torch.where(free, x, clean)

    def predict(x: Tensor, timesteps: Tensor) -> Tensor:
        outputs = model(hold(x).repeat(halves, 1), timesteps.repeat(halves), batch).float().chunk(halves)
        if halves == 1:
            return outputs[0]
        (y, variance), (y_none, _) = (output.tensor_split([x.shape[1]], dim=1) for output in outputs)
        return torch.cat([y_none + config.guidance * (y - y_none), variance], dim=1)

    if isinstance(objective, RectifiedFlow):
        integrate = {"auto": euler, "euler": euler, "heun": heun}.get(config.sampler)
        if integrate is None:
            raise ValueError(f"sample.sampler: a flow is sampled by euler or heun, got {config.sampler}")
        grid = torch.linspace(1, 0, config.num_steps + 1, dtype=torch.float64).tolist()
        timesteps = torch.tensor([[objective.shift(t, n) for n in lengths] for t in grid])
        return hold(integrate(predict, start, timesteps.to(start), segments.gather))
    if not isinstance(objective, DDPM):
        raise ValueError(f"no sampler for {type(objective).__name__}; expected RectifiedFlow or DDPM")
    shapes = latent_shapes(batch, patch)[: len(lengths)]
    generators = [keyed_generator("ancestral", config.seed, clip) for clip in batch.clip_ids[: len(lengths)]]

    def draw() -> Tensor:
        """Noise of one step: each segment's own, whatever the pack. Of latents, as in training: the copies of a frame
        that fills a tubelet by being repeated have one noise."""
        parts = [patchify(torch.randn(s, generator=g), patch) for s, g in zip(shapes, generators, strict=True)]
        return torch.cat(parts).to(start)

    return hold(denoise(predict, start, objective, config, segments.num_segments, draw))


def euler(velocity: Predict, x: Tensor, timesteps: Tensor, gather: Callable[[Tensor], Tensor]) -> Tensor:
    """Integrate dx/dt = v from the first to the last row of `timesteps`, (num_steps + 1, S), at order 1."""
    for t, t_next in pairwise(timesteps):
        x = x + gather(t_next - t)[:, None] * velocity(x, t)
    return x


def heun(velocity: Predict, x: Tensor, timesteps: Tensor, gather: Callable[[Tensor], Tensor]) -> Tensor:
    """The same at order 2: the mean of the velocities at both ends of a step. The last step is Euler's, as in
    algorithm 1 of Karras et al. 2022: a model that is trained on noisy data has no answer at t = 0."""
    *steps, last = pairwise(timesteps)
    for t, t_next in steps:
        step = gather(t_next - t)[:, None]
        v = velocity(x, t)
        x = x + step * (v + velocity(x + step * v, t_next)) / 2
    return euler(velocity, x, torch.stack(last), gather)


def denoise(
    predict: Predict, x: Tensor, objective: DDPM, config: SampleConfig, num_segments: int, draw: Callable[[], Tensor]
) -> Tensor:
    """A DDPM's sample: (L, P) noise to (L, P) data.

    Args:
        predict: the model.
        x: (L, P).
        objective: what the model was trained on.
        config: sampler and number of steps.
        num_segments: S.
        draw: fresh noise (L, P), for the ancestral sampler alone.

    Raises:
        ValueError: a sampler that is none for a DDPM, or more steps than timesteps.
    """
    total, num_steps = objective.config.num_timesteps, config.num_steps
    if num_steps > total:
        raise ValueError(f"sample.num_steps: got {num_steps}, and the run has {total} timesteps; ask for fewer steps")
    # From the noisiest timestep on (Lin et al. 2024, §3.3).
    grid = [round(total * (num_steps - i) / num_steps) - 1 for i in range(num_steps)]

    def predict_at(x: Tensor, number: int) -> Tensor:
        return predict(x, torch.full((num_segments,), number / total, device=x.device))

    match config.sampler:
        case "auto" | "ddim":
            return ddim(predict_at, x, objective, grid)
        case "dpm-solver++":
            return dpm_solver(predict_at, x, objective, grid)
        case "ddpm":
            return ancestral(predict_at, x, objective, grid, draw)
    raise ValueError(f"sample.sampler: a DDPM is sampled by ddim, dpm-solver++ or ddpm, got {config.sampler}")


PredictAt = Callable[[Tensor, int], Tensor]
"""(x (L, P), number of the timestep) to what the model predicts."""


def ddim(predict: PredictAt, x: Tensor, objective: DDPM, grid: Sequence[int]) -> Tensor:
    """Deterministic, at order 1 (Song et al. 2021, eq. 12 with σ = 0).

    diffusers' scheduler steps by ⌊T / num_steps⌋, and ends beside the data where num_steps does not divide T.
    """
    for number, cumulative, before in _steps(objective, grid):
        output = predict(x, number)[:, : x.shape[1]]
        x_0, epsilon = objective.data_and_noise(output, x, cumulative)
        x = before.sqrt() * x_0 + (1 - before).sqrt() * epsilon
    return x


def ancestral(
    predict: PredictAt, x: Tensor, objective: DDPM, grid: Sequence[int], draw: Callable[[], Tensor]
) -> Tensor:
    """Ho et al. 2020, algorithm 2, on fewer timesteps (Nichol & Dhariwal 2021, §4). Without learned variances the
    posterior's."""
    for number, cumulative, before in _steps(objective, grid):
        output, variance = predict(x, number).tensor_split([x.shape[1]], dim=1)  # (L, P), (L, P) or (L, 0)
        x_0, _ = objective.data_and_noise(output, x, cumulative)
        q = posterior(cumulative, before)
        x = q.from_x0 * x_0 + q.from_xt * x
        if before < 1:  # the last step is its mean
            fraction = (variance + 1) / 2 if objective.config.learn_sigma else 0.0
            x = x + (0.5 * (fraction * q.beta.log() + (1 - fraction) * q.variance.log())).exp() * draw()
    return x


def dpm_solver(predict: PredictAt, x: Tensor, objective: DDPM, grid: Sequence[int]) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2), deterministic, at order 2."""
    from diffusers import DPMSolverMultistepScheduler

    config = objective.config
    scheduler = DPMSolverMultistepScheduler(
        num_train_timesteps=config.num_timesteps,
        trained_betas=betas(config).numpy(),
        prediction_type={"epsilon": "epsilon", "v": "v_prediction", "x0": "sample"}[config.prediction],
        # The betas are rescaled already, which this leaves as it is; but it keeps the last SNR, of which the solver
        # takes the logarithm, above 0.
        rescale_betas_zero_snr=config.zero_terminal_snr,
    )
    scheduler.set_timesteps(timesteps=list(grid))
    for number in grid:
        x = scheduler.step(predict(x, number)[:, : x.shape[1]], number, x).prev_sample
    return x


def _steps(objective: DDPM, grid: Sequence[int]) -> list[tuple[int, Tensor, Tensor]]:
    """Of each step its timestep, ᾱ there, and ᾱ where it leads; the last leads to the data."""
    cumulative = objective.alphas_cumprod[list(grid)]
    after = torch.cat([cumulative[1:], torch.ones(1, dtype=torch.float64)])
    return list(zip(grid, cumulative, after, strict=True))
