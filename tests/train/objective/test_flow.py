import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from train.objective.config import FlowConfig
from train.objective.flow import RectifiedFlow
from train.packing.batch import Sample, pack


def test_the_noisy_tokens_are_the_straight_line_and_the_target_is_its_derivative(samples: list[Sample]):
    batch = pack(samples, (1, 2, 2), 12)
    seen = {}

    def model(x, timesteps, _):
        seen.update(x=x, timesteps=timesteps)
        return batch.noise - batch.tokens

    losses = RectifiedFlow(FlowConfig()).token_losses(model, batch)
    assert losses.abs().max() == 0  # the derivative of x_t by t is the target
    for x, t, x0, eps in zip(
        seen["x"].split(batch.segments.lengths),
        batch.timesteps,
        batch.tokens.split(batch.segments.lengths),
        batch.noise.split(batch.segments.lengths),
        strict=True,
    ):
        torch.testing.assert_close(x, (1 - t) * x0 + t * eps)
        torch.testing.assert_close(x - t * (eps - x0), x0)  # x_0 = x_t - t v


def test_reductions_weigh_samples_or_tokens(samples: list[Sample]):
    batch = pack(samples, (1, 2, 2), 12)
    losses = torch.rand(batch.segments.num_tokens)
    by_sample, by_token = (RectifiedFlow(FlowConfig(reduction=r)) for r in ("sample", "token"))
    means = [part.mean() for part in losses.split(batch.segments.lengths)]
    counts = len(samples), len(losses)
    torch.testing.assert_close(by_sample.loss_sum(losses, batch) / by_sample.count(*counts), torch.stack(means).mean())
    torch.testing.assert_close(by_token.loss_sum(losses, batch) / by_token.count(*counts), losses.mean())


@pytest.mark.parametrize("kind", ["uniform", "logit_normal", "mode"])
def test_drawn_timesteps_follow_their_distribution(kind: str):
    """Kolmogorov-Smirnov distance of 4,000 draws; 1.95 / sqrt(n) is passed by chance in 999 of 1,000 seeds."""
    objective = RectifiedFlow(FlowConfig(timesteps=kind, logit_mean=0.4, logit_std=0.8, mode_scale=0.9))
    generator = torch.Generator().manual_seed(0)
    drawn = sorted(objective.draw_timestep(generator, 100) for _ in range(4000))

    def cdf(t: float) -> float:
        if kind == "uniform":
            return t
        if kind == "mode":  # SD3 eq. 20: t falls with u, so P(T ≤ t) is 1 - u at the u that gives t
            low, high = 0.0, 1.0
            for _ in range(50):
                u = (low + high) / 2
                given_t = 1 - u - 0.9 * (math.cos(math.pi / 2 * u) ** 2 - 1 + u)
                low, high = (u, high) if given_t > t else (low, u)
            return 1 - low
        return 0.5 * (1 + math.erf((math.log(t / (1 - t)) - 0.4) / (0.8 * math.sqrt(2))))

    assert max(abs(cdf(t) - (i + 0.5) / 4000) for i, t in enumerate(drawn)) < 1.95 / math.sqrt(4000)


def test_the_shift_is_the_identity_at_its_base_and_monotone_in_tokens():
    objective = RectifiedFlow(FlowConfig(shift_base_tokens=256))
    assert objective.shift(0.3, 256) == pytest.approx(0.3)
    assert [objective.shift(t, 4096) for t in (0.0, 1.0)] == [0.0, 1.0]
    shifted = [objective.shift(0.3, n) for n in (64, 256, 1024, 4096)]
    assert shifted == sorted(shifted) and len(set(shifted)) == 4
    # SD3 eq. 23 keeps the signal-to-noise of a token mean: the odds t / (1 - t) grow by sqrt(n / base).
    assert shifted[3] / (1 - shifted[3]) == pytest.approx(4 * 0.3 / 0.7)


@given(t=st.floats(0, 1), tokens=st.integers(1, 10**6), other=st.integers(1, 10**6), base=st.integers(1, 10**5))
def test_shifts_compose_and_undo_each_other(t: float, tokens: int, other: int, base: int):
    """Odds are multiplied: from base to n tokens and from n to m is from base to m; back again is nothing."""
    there = RectifiedFlow(FlowConfig(shift_base_tokens=base)).shift(t, tokens)
    onwards = RectifiedFlow(FlowConfig(shift_base_tokens=tokens)).shift(there, other)
    assert onwards == pytest.approx(RectifiedFlow(FlowConfig(shift_base_tokens=base)).shift(t, other), abs=1e-12)
    assert RectifiedFlow(FlowConfig(shift_base_tokens=tokens)).shift(there, base) == pytest.approx(t, abs=1e-9)


def test_the_least_loss_is_reached_by_the_expected_velocity():
    """x_0 ~ N(μ, σ²): E[ε - x_0 | x_t] in closed form leaves Var(ε - x_0 | x_t) = σ² / ((1 - t)² σ² + t²)."""
    mean, std, generator = 0.7, 0.6, torch.Generator().manual_seed(0)
    shape = (4, 8, 64, 64)
    for t in (0.1, 0.5, 0.9):
        latent = mean + std * torch.randn(shape, generator=generator)
        noise = torch.randn(shape, generator=generator)
        batch = pack([Sample(clip_id="", latent=latent, noise=noise, timestep=t, fps=8.0, text=None)], (1, 2, 2), 12)
        variance = (1 - t) ** 2 * std**2 + t**2

        def expected(x, _timesteps, _batch, t=t, variance=variance):
            return -mean + (t - (1 - t) * std**2) / variance * (x - (1 - t) * mean)

        losses = RectifiedFlow(FlowConfig()).token_losses(expected, batch)
        assert losses.mean().item() == pytest.approx(std**2 / variance, rel=0.02)
        worse = RectifiedFlow(FlowConfig()).token_losses(lambda *args, f=expected: f(*args) + 0.1, batch)
        assert worse.mean().item() == pytest.approx(std**2 / variance + 0.01, rel=0.02)


def test_conditioning_tokens_are_clean_and_without_loss(samples: list[Sample]):
    first_frame = torch.arange(18) < 6  # of 3 × 2 × 3 patches
    batch = pack([replace(samples[0], clean_mask=first_frame), *samples[1:]], (1, 2, 2), 12)
    seen = []
    losses = RectifiedFlow(FlowConfig()).token_losses(lambda x, *_: seen.append(x) or x, batch)
    assert torch.equal(seen[0][:6], batch.tokens[:6])
    assert not torch.equal(seen[0][6:12], batch.tokens[6:12])
    assert (losses[:6] == 0).all() and (losses[6:] > 0).all()
    # A sample's mean is over the tokens that have a loss.
    by_sample = RectifiedFlow(FlowConfig())
    means = [losses[6:18].mean(), *(part.mean() for part in losses.split(batch.segments.lengths)[1:])]
    torch.testing.assert_close(by_sample.loss_sum(losses, batch), torch.stack(means).sum())
