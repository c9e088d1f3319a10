"""Samplers give what the formulas of their papers gave when each was written for one objective."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler
from torch import Tensor

from tests.train.sampling.gaussian import exact, prediction, process
from train.objective.base import NoiseLevel
from train.objective.config import DDPMConfig, FlowConfig
from train.objective.ddpm import DDPM, betas
from train.objective.flow import RectifiedFlow
from train.sampling.samplers.ancestral import AncestralSampler
from train.sampling.samplers.ddim import DDIMSampler
from train.sampling.samplers.dpm_solver import DPMSolverSampler
from train.sampling.samplers.euler import EulerSampler
from train.sampling.samplers.heun import HeunSampler
from train.sampling.samplers.unipc import UniPCSampler

NUM_STEPS = 12


def noise(number: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(64, 3, generator=generator) for _ in range(number)]


@pytest.mark.parametrize("base", [None, 4])
@pytest.mark.parametrize("sampler", [EulerSampler(), HeunSampler()], ids=lambda sampler: sampler.kind)
def test_a_flow_is_integrated_in_its_timesteps_bit_for_bit(sampler: Any, base: int | None):
    objective: RectifiedFlow = FlowConfig(shift_base_tokens=base).build()  # type: ignore[assignment]
    (x,) = noise()
    out = sampler.sample(x, process(objective, NUM_STEPS, lambda x, level: x.sin(), dtype=torch.float32))
    grid = torch.linspace(1, 0, NUM_STEPS + 1, dtype=torch.float64).tolist()
    for t, after in pairwise(torch.tensor([objective.shift(t, 16) for t in grid])):
        step, v = after - t, x.sin()
        is_heun = sampler.kind == "heun" and after > 0
        x = x + step * (v + (x + step * v).sin()) / 2 if is_heun else x + step * v
    torch.testing.assert_close(out, x, rtol=0, atol=1e-6 if sampler.kind == "heun" else 0)


def steps(objective: DDPM) -> list[tuple[int, Tensor, Tensor]]:
    """Number of each timestep, ᾱ there and where it leads."""
    total = objective.config.num_timesteps
    grid = [round(total * (NUM_STEPS - i) / NUM_STEPS) - 1 for i in range(NUM_STEPS)]
    cumulative = objective.alphas_cumprod[grid]
    after = torch.cat([cumulative[1:], torch.ones(1, dtype=torch.float64)])
    return list(zip(grid, cumulative, after, strict=True))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"prediction": "v"},
        {"prediction": "x0", "schedule": "cosine"},
        {"zero_terminal_snr": True, "prediction": "v"},
    ],
    ids=str,
)
@pytest.mark.parametrize("sampler", [EulerSampler(), DDIMSampler()], ids=lambda sampler: sampler.kind)
def test_ddim_is_equation_12_and_so_is_euler(sampler: Any, settings: dict[str, Any]):
    objective: DDPM = DDPMConfig(**settings).build()  # type: ignore[assignment]
    (x,) = noise()
    out = sampler.sample(x, process(objective, NUM_STEPS, _model(objective), dtype=torch.float32))
    for _, cumulative, after in steps(objective):
        alpha, sigma = cumulative.sqrt(), (1 - cumulative).sqrt()
        y = prediction(objective, exact(x, alpha, sigma), alpha, sigma)
        x_0, epsilon = {
            "epsilon": lambda x=x, y=y, a=alpha, b=sigma: ((x - b * y) / a, y),
            "x0": lambda x=x, y=y, a=alpha, b=sigma: (y, (x - a * y) / b),
            "v": lambda x=x, y=y, a=alpha, b=sigma: (a * x - b * y, b * x + a * y),
        }[objective.config.prediction]()
        x = after.sqrt() * x_0 + (1 - after).sqrt() * epsilon
    torch.testing.assert_close(out, x, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "atol"),
    # diffusers moves the last SNR above 0, to 2^-24, and its x_0 with it.
    [({}, 1e-5), ({"prediction": "x0"}, 1e-5), ({"zero_terminal_snr": True, "prediction": "v"}, 1e-3)],
    ids=str,
)
def test_dpm_solver_is_that_of_diffusers(settings: dict[str, Any], atol: float):
    objective: DDPM = DDPMConfig(**settings).build()  # type: ignore[assignment]
    (x,) = noise()
    out = DPMSolverSampler().sample(x, process(objective, NUM_STEPS, _model(objective), dtype=torch.float32))
    scheduler = DPMSolverMultistepScheduler(
        trained_betas=betas(objective.config).numpy(),
        prediction_type={"epsilon": "epsilon", "v": "v_prediction", "x0": "sample"}[objective.config.prediction],
        rescale_betas_zero_snr=objective.config.zero_terminal_snr,
    )
    scheduler.set_timesteps(timesteps=[number for number, *_ in steps(objective)])
    for number, cumulative, _ in steps(objective):
        alpha, sigma = cumulative.sqrt(), (1 - cumulative).sqrt()
        x = scheduler.step(prediction(objective, exact(x, alpha, sigma), alpha, sigma), number, x).prev_sample
    torch.testing.assert_close(out, x.float(), rtol=0, atol=atol)


def test_unipc_is_that_of_diffusers():
    """On a flow that begins below pure noise, whose log-SNR diffusers divides by."""
    objective, grid = FlowConfig().build(), torch.linspace(0.98, 0, NUM_STEPS + 1, dtype=torch.float64)
    levels = [NoiseLevel(timesteps=t[None].float(), alpha=1 - t[None], sigma=t[None]) for t in grid]
    (x,) = noise()
    begun = replace(process(objective, NUM_STEPS, _velocity, dtype=torch.float32), levels=levels)
    out = UniPCSampler().sample(x, begun)
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    scheduler.set_timesteps(NUM_STEPS)
    scheduler.sigmas, scheduler.timesteps = grid.float(), 1000 * grid[:-1]
    for level, t in zip(levels, scheduler.timesteps, strict=False):
        x = scheduler.step(_velocity(x, level), t, x).prev_sample
    torch.testing.assert_close(out, x, rtol=0, atol=1e-5)


def _velocity(x: Tensor, level: NoiseLevel) -> Tensor:
    return exact(x, level.alpha, level.sigma).velocity.to(x.dtype)


@pytest.mark.parametrize("learn_sigma", [False, True])
def test_ancestral_steps_are_those_of_diffusers(learn_sigma: bool):
    """By its scheduler, where the steps divide the timesteps evenly."""
    objective: DDPM = DDPMConfig(learn_sigma=learn_sigma).build()  # type: ignore[assignment]
    x, *fresh = [one.double() for one in noise(20)]

    def model(x: Tensor, level: object) -> Tensor:
        return torch.cat([x.sin(), x.cos()], 1) if learn_sigma else x.sin()

    out = AncestralSampler().sample(x, process(objective, 20, model, iter(fresh)))
    scheduler = DDPMScheduler(
        trained_betas=betas(objective.config).numpy(),
        variance_type="learned_range" if learn_sigma else "fixed_small",
        timestep_spacing="trailing",
        clip_sample=False,
    )
    scheduler.set_timesteps(20)
    drawn = iter([*fresh, torch.zeros_like(x)])  # it adds noise to the data, too
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, **__: next(drawn))
        for number in scheduler.timesteps.tolist():
            x = scheduler.step(model(x, None), number, x).prev_sample
    torch.testing.assert_close(out, x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("config", [FlowConfig(), DDPMConfig()], ids=lambda config: config.kind)
def test_ddim_with_eta_1_is_ancestral_sampling(config: Any):
    objective = config.build()
    x, *fresh = [one.double() for one in noise(20)]
    outs = [
        sampler.sample(x, process(objective, 20, _model(objective), iter(fresh)))
        for sampler in (DDIMSampler(eta=1), AncestralSampler())
    ]
    torch.testing.assert_close(*outs)


def _model(objective: Any) -> Callable[[Tensor, NoiseLevel], Tensor]:
    return lambda x, level: prediction(objective, exact(x, level.alpha, level.sigma), level.alpha, level.sigma).to(x)
