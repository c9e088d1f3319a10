import math

import pytest
import torch

from train.objective.flow import FlowConfig, RectifiedFlow
from train.segments import Sample, pack


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


@pytest.mark.parametrize("kind", ["uniform", "logit_normal"])
def test_drawn_timesteps_follow_their_distribution(kind: str):
    """Kolmogorov-Smirnov distance of 4,000 draws; 1.95 / sqrt(n) is passed by chance in 999 of 1,000 seeds."""
    objective = RectifiedFlow(FlowConfig(timesteps=kind, logit_mean=0.4, logit_std=0.8))
    generator = torch.Generator().manual_seed(0)
    drawn = sorted(objective.draw_timestep(generator, 100) for _ in range(4000))

    def cdf(t: float) -> float:
        if kind == "uniform":
            return t
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
