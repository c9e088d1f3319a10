"""DDPM against the formulas of its papers, computed here in float64 and another way."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from tests.support.latents import TEXT_DIM
from tests.train.conftest import ragged_samples
from train.objective.config import DDPMConfig
from train.objective.ddpm import DDPM, _discretized_log_likelihood, betas
from train.packing.batch import PackedBatch, pack
from train.run.config import TrainConfig
from train.run.folder import RunRecord, build_model

PATCH = (1, 2, 2)
SCHEDULES = [
    {"schedule": "linear"},
    {"schedule": "cosine"},
    {"schedule": "linear", "zero_terminal_snr": True, "prediction": "v"},
]


def objective(**settings: Any) -> DDPM:
    return DDPMConfig(**settings).build()


def batch_at(*indices: int, total: int = 1000) -> PackedBatch:
    """The ragged pack, its segments at these timesteps in turn."""
    samples = ragged_samples()
    return pack(
        [replace(s, timestep=indices[i % len(indices)] / total) for i, s in enumerate(samples)], PATCH, TEXT_DIM
    )


def asked(ddpm: DDPM, batch: PackedBatch, answer: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Noisy tokens that the model is shown (L, P), and the losses of its answer (L,)."""
    seen = []

    def model(x: Tensor, _timesteps: Tensor, _batch: PackedBatch) -> Tensor:
        seen.append(x)
        return answer(x)

    losses = ddpm.token_losses(model, batch)
    return seen[0], losses


def signal_and_noise(ddpm: DDPM, batch: PackedBatch) -> tuple[Tensor, Tensor]:
    """√ᾱ and √(1 - ᾱ) of each token in float64, (L, 1), from β alone."""
    index = (batch.timesteps.double() * ddpm.config.num_timesteps).round().long()
    cumulative = torch.stack([(1 - betas(ddpm.config)[: i + 1]).prod() for i in index])
    tokens = batch.segments.gather(cumulative)[:, None]
    return tokens.sqrt(), (1 - tokens).sqrt()


def test_the_linear_schedule_is_that_of_ho_et_al():
    values = betas(DDPMConfig())
    assert (values[0].item(), values[-1].item()) == pytest.approx((1e-4, 0.02))
    torch.testing.assert_close(values.diff(), torch.full((999,), (0.02 - 1e-4) / 999, dtype=torch.float64))
    # Their x_T is almost noise: "D_KL(q(x_T | x_0) ‖ N(0, I)) ≈ 10⁻⁵ bits per dimension" (§4).
    cumulative = objective().alphas_cumprod[-1]
    assert 0.5 * (cumulative * 0.25 - cumulative - (1 - cumulative).log()) / math.log(2) < 1.1e-5


def test_the_cosine_schedule_is_that_of_nichol_and_dhariwal():
    ddpm = objective(schedule="cosine")

    def f(t: float) -> float:
        return math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2

    expected = torch.tensor([f(i + 1) / f(0) for i in range(1000)], dtype=torch.float64)
    assert (betas(ddpm.config) == 0.999).sum() == 1  # β is cut at 0.999: at the last timestep, as they say
    torch.testing.assert_close(ddpm.alphas_cumprod[:-1], expected[:-1], atol=1e-12, rtol=0)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_with_zero_terminal_snr_the_last_timestep_keeps_no_signal_and_the_first_is_as_it_was(schedule: str):
    plain = objective(schedule=schedule).alphas_cumprod
    rescaled = objective(schedule=schedule, zero_terminal_snr=True, prediction="v").alphas_cumprod
    assert rescaled[-1] == 0.0
    assert rescaled[0].item() == pytest.approx(plain[0].item(), abs=1e-12)
    assert (rescaled.diff() < 0).all()
    # Lin et al., algorithm 1: √ᾱ is moved and stretched, nothing else.
    slopes = rescaled.sqrt().diff() / plain.sqrt().diff()
    torch.testing.assert_close(slopes, slopes[:1].expand(999), atol=0, rtol=1e-6)


@pytest.mark.parametrize("settings", SCHEDULES, ids=str)
@given(index=st.integers(0, 999))
def test_noisy_tokens_have_the_moments_of_the_forward_process(settings: dict[str, Any], index: int):
    """x_t = √ᾱ x_0 + √(1 - ᾱ) ε, ᾱ = Π (1 - β) (Ho et al., eq. 4)."""
    ddpm, batch = objective(**settings), batch_at(index, 999 - index)
    x_t, _ = asked(ddpm, batch, lambda x: x)
    signal, noise = signal_and_noise(ddpm, batch)
    torch.testing.assert_close(x_t.double(), signal * batch.tokens + noise * batch.noise, atol=2e-6, rtol=0)


@pytest.mark.parametrize("settings", SCHEDULES, ids=str)
@given(index=st.integers(0, 999))
def test_predictions_are_three_names_of_one_thing(settings: dict[str, Any], index: int):
    """x_0 = √ᾱ x_t - √(1 - ᾱ) v and ε = √(1 - ᾱ) x_t + √ᾱ v (Salimans & Ho 2022, appendix D)."""
    given_by = {key: value for key, value in settings.items() if key != "prediction"}
    batch = batch_at(index)
    v_objective = objective(**given_by, prediction="v")
    signal, noise = signal_and_noise(v_objective, batch)
    x_t, losses = asked(v_objective, batch, lambda _: (signal * batch.noise - noise * batch.tokens).float())
    assert losses.max() < 1e-10
    v = signal * batch.noise - noise * batch.tokens
    torch.testing.assert_close(signal * x_t - noise * v, batch.tokens.double(), atol=5e-6, rtol=0)
    torch.testing.assert_close(noise * x_t + signal * v, batch.noise.double(), atol=5e-6, rtol=0)
    _, losses = asked(objective(**given_by, prediction="x0"), batch, lambda _: batch.tokens)
    assert losses.max() == 0
    if "zero_terminal_snr" not in settings:
        _, losses = asked(objective(**given_by, prediction="epsilon"), batch, lambda _: batch.noise)
        assert losses.max() == 0


@pytest.mark.parametrize("prediction", ["epsilon", "v", "x0"])
@given(index=st.integers(1, 998), gamma=st.floats(0.5, 20))
def test_min_snr_weighs_the_same_error_of_x0_the_same_by_every_prediction(prediction: str, index: int, gamma: float):
    """Hang et al., §3.4: min(SNR, γ) on x_0, divided by SNR on ε and by SNR + 1 on v."""
    ddpm, batch = objective(prediction=prediction, min_snr_gamma=gamma), batch_at(index)
    signal, noise = signal_and_noise(ddpm, batch)
    error = 0.5  # of x_0; ε errs by -√ᾱ / √(1 - ᾱ) times it, v by -1 / √(1 - ᾱ)
    answers = {
        "x0": batch.tokens + error,
        "epsilon": batch.noise - signal / noise * error,
        "v": signal * batch.noise - noise * batch.tokens - error / noise,
    }
    _, losses = asked(ddpm, batch, lambda _: answers[prediction].float())
    snr = (signal / noise).square()[:, 0]
    torch.testing.assert_close(losses.double(), snr.clamp(max=gamma) * error**2, rtol=2e-4, atol=0)


@given(index=st.integers(1, 999), seed=st.integers(0, 2**32 - 1))
def test_the_learned_variance_is_paid_by_the_divergence_of_two_gaussians(index: int, seed: int):
    """L_hybrid - L_simple = KL(q(x_{t-1} | x_t, x_0) ‖ p_θ(x_{t-1} | x_t)) in bits (Nichol & Dhariwal, eq. 15-16).

    The posterior comes from Bayes' rule, as a product of two Gaussians.
    """
    ddpm, batch = objective(learn_sigma=True), batch_at(index)
    generator = torch.Generator().manual_seed(seed)
    epsilon = batch.noise + 0.3 * torch.randn(batch.noise.shape, generator=generator)
    v = 2 * torch.rand(batch.noise.shape, generator=generator) - 1  # [-1, 1]
    x_t, losses = asked(ddpm, batch, lambda _: torch.cat([epsilon, v], dim=-1))
    beta, before = betas(ddpm.config)[index], ddpm.alphas_cumprod[index - 1]
    cumulative = before * (1 - beta)

    def posterior(x_0: Tensor) -> tuple[Tensor, Tensor]:
        """N(x; √ᾱ_{t-1} x_0, 1 - ᾱ_{t-1}) · N(x_t; √α x, β), as a Gaussian in x: mean and variance."""
        precision = 1 / (1 - before) + (1 - beta) / beta
        mean = (before.sqrt() * x_0 / (1 - before) + (1 - beta).sqrt() * x_t / beta) / precision
        return mean, 1 / precision

    mean, variance = posterior(batch.tokens.double())
    predicted_mean, _ = posterior((x_t - (1 - cumulative).sqrt() * epsilon) / cumulative.sqrt())
    fraction = (v.double() + 1) / 2
    predicted_variance = (fraction * beta.log() + (1 - fraction) * variance.log()).exp()
    divergence = kl_divergence(Normal(mean, variance.sqrt()), Normal(predicted_mean, predicted_variance.sqrt()))
    simple = (epsilon - batch.noise).square().mean(-1)
    torch.testing.assert_close(
        losses.double(), simple + divergence.mean(-1) / math.log(2), rtol=2e-3, atol=2e-5, check_dtype=False
    )


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_first_timestep_has_the_variances_of_the_second_and_its_own_beta(schedule: str):
    """Its posterior has none, and the model's fraction lies between two logarithms."""
    ddpm = objective(learn_sigma=True, schedule=schedule)
    beta = betas(ddpm.config)
    cumulative = (1 - beta).cumprod(0)
    second = float(beta[1] * (1 - cumulative[0]) / (1 - cumulative[1]))
    batch = batch_at(0)
    least = asked(ddpm, batch, lambda x: torch.cat([batch.noise, torch.full_like(x, -1)], 1))[1]
    most = asked(ddpm, batch, lambda x: torch.cat([batch.noise, torch.ones_like(x)], 1))[1]
    for losses, variance in ((least, second), (most, float(beta[0]))):
        scale = torch.tensor(0.5 * math.log(variance))
        likelihood = _discretized_log_likelihood(batch.tokens, batch.tokens, scale)
        torch.testing.assert_close(losses, -likelihood.mean(-1) / math.log(2), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("total", [1000, 250])
def test_the_bound_sums_over_timesteps_to_a_thousandth(total: int):
    """λ L_vlb with λ = 0.001 and L_vlb a sum of T terms: one drawn term weighs T / 1000."""
    ddpm = objective(learn_sigma=True, num_timesteps=total)
    index = 2  # later ones hardly differ: what is compared would be rounding
    batch = batch_at(index, total=total)
    _, losses = asked(ddpm, batch, lambda _: torch.cat([batch.noise, torch.ones_like(batch.noise)], dim=-1))
    # ε is right and the variance is β: what is left is the divergence of two variances.
    beta, before = betas(ddpm.config)[index], ddpm.alphas_cumprod[index - 1]
    variance = beta * (1 - before) / (1 - before * (1 - beta))
    divergence = 0.5 * (variance / beta - 1 - (variance / beta).log()) / math.log(2)
    torch.testing.assert_close(losses, torch.full_like(losses, divergence * total / 1000), rtol=0.01, atol=1e-9)


def test_the_bound_teaches_variances_and_leaves_means_alone():
    ddpm, batch = objective(learn_sigma=True), batch_at(1, 500, 999)
    epsilon = (batch.noise + 0.1).requires_grad_()
    variance = torch.zeros_like(batch.noise, requires_grad=True)
    ddpm.token_losses(lambda *_: torch.cat([epsilon, variance], dim=-1), batch).sum().backward()
    torch.testing.assert_close(epsilon.grad, 2 * (epsilon.detach() - batch.noise) / batch.noise.shape[1])
    assert variance.grad.abs().min() > 0


@given(mean=st.floats(-1.5, 1.5), log_scale=st.floats(-5, 1))
def test_the_last_step_is_a_distribution_over_256_values(mean: float, log_scale: float):
    """Ho et al., eq. 13: bins of 2/255 around the values of a picture, the outer ones reaching to infinity."""
    values = torch.linspace(-1, 1, 256, dtype=torch.float64)
    logarithms = _discretized_log_likelihood(values, torch.full_like(values, mean), torch.full_like(values, log_scale))
    assert logarithms.exp().sum().item() == pytest.approx(1, abs=1e-6)
    exact = Normal(mean, math.exp(log_scale))
    expected = exact.cdf(values[1:-1] + 1 / 255) - exact.cdf(values[1:-1] - 1 / 255)
    # tanh stands for the normal distribution, as in the published code.
    torch.testing.assert_close(logarithms[1:-1].exp(), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("settings", [*SCHEDULES, {"prediction": "epsilon", "min_snr_gamma": 5}], ids=str)
def test_every_timestep_is_trained(settings: dict[str, Any]):
    ddpm, batch = objective(**settings), batch_at(0, 500, 999)
    _, losses = asked(ddpm, batch, lambda x: x + 10)
    assert (losses > 0).all() and losses.isfinite().all()


def test_the_schedule_is_moved_to_a_device_once():
    ddpm, device = objective(), torch.device("meta")
    assert ddpm._schedule_on(device) is ddpm._schedule_on(device)
    assert ddpm._schedule_on(device).weight.device == device


def test_conditioning_tokens_are_clean_and_without_loss():
    samples = [replace(s, timestep=0.7) for s in ragged_samples()]
    first_frame = torch.arange(18) < 6  # of 3 × 2 × 3 patches
    batch = pack([replace(samples[0], clean_mask=first_frame), *samples[1:]], PATCH, TEXT_DIM)
    x_t, losses = asked(objective(), batch, lambda x: x)
    assert torch.equal(x_t[:6], batch.tokens[:6])
    assert (losses[:6] == 0).all() and (losses[6:] > 0).all()


def test_timesteps_are_drawn_evenly_and_are_numbers_of_the_schedule():
    ddpm, generator = objective(num_timesteps=10), torch.Generator().manual_seed(0)
    drawn = [round(10 * ddpm.draw_timestep(generator, 64)) for _ in range(5000)]
    counts = torch.tensor(drawn).bincount(minlength=10).double()
    assert len(counts) == 10
    assert ((counts - 500) ** 2 / 500).sum() < 27.9  # χ² of 9 degrees: passed by chance in 999 of 1,000 seeds


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"zero_terminal_snr": True}, "set prediction to v or x0"),
        *(
            (
                {"zero_terminal_snr": True, "prediction": prediction, "min_snr_gamma": 5},
                "SNR is 0 at the last timestep, and so is its weight",
            )
            for prediction in ("v", "x0")
        ),
        ({"learn_sigma": True, "prediction": "v"}, "learn_sigma is defined with prediction epsilon, got v"),
    ],
)
def test_contradictions_are_refused(settings: dict[str, Any], message: str):
    with pytest.raises(ValidationError, match=message):
        DDPMConfig(**settings)


def test_the_objective_alone_says_whether_the_model_predicts_variances():
    config = TrainConfig.model_validate({"objective": {"kind": "ddpm", "learn_sigma": True}})
    record = RunRecord(latents={"channels": 4}, text={"dim": 12}, fps=0.0, datasets=())
    assert build_model(config, record).final.linear.out_features == 2 * 4 * math.prod(config.model.patch)
    with pytest.raises(ValueError, match=r"learn_sigma: the objective alone .* set train\.objective\.learn_sigma"):
        TrainConfig.model_validate({"objective": {"kind": "ddpm"}, "model": {"learn_sigma": False}})
