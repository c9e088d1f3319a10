import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler

from train.data.plan import PlanConfig
from train.model.dit import DiT, DiTConfig
from train.objective.config import DDPMConfig, FlowConfig
from train.objective.ddpm import DDPM, betas, posterior
from train.objective.flow import RectifiedFlow
from train.packing.batch import Sample, pack
from train.run.config import SampleConfig
from train.sampling.samplers import denoise, euler, generate, guided, heun, packs_to_generate


def gaussian_velocity(mean: float, std: float):
    """E[ε - x_0 | x_t] for x_0 ~ N(mean, std²), in closed form."""

    def velocity(x, t):
        variance = (1 - t) ** 2 * std**2 + t**2
        return -mean + (t - (1 - t) * std**2) / variance * (x - (1 - t) * mean)

    return velocity


@pytest.mark.parametrize(("integrate", "order"), [(euler, 1), (heun, 2)])
def test_a_flow_sampler_reaches_a_gaussian_target_and_converges_at_its_order(integrate, order):
    mean, std, x = 1.5, 0.4, torch.randn(2000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    errors = []
    for num_steps in (50, 100, 200):
        timesteps = torch.linspace(1, 0, num_steps + 1, dtype=torch.float64)[:, None]
        out = integrate(lambda x, t: gaussian_velocity(mean, std)(x, t), x, timesteps, lambda row: row.expand(len(x)))
        errors.append((out - (mean + std * x)).abs().mean().item())  # the flow's map is affine: ε → mean + std ε
    assert errors[-1] < 0.01
    assert all(a / b == pytest.approx(2**order, rel=0.2) for a, b in pairwise(errors))


def test_heun_asks_the_model_nothing_at_the_data():
    """Algorithm 1 of Karras et al. 2022 ends with a step of Euler; logit-normal training never sees t = 0."""
    asked: list[float] = []

    def velocity(x, t):
        asked.append(float(t[0]))
        return x

    timesteps = torch.linspace(1, 0, 5)[:, None]
    out = heun(velocity, torch.ones(1, 1), timesteps, lambda row: row)
    assert asked == [1, 0.75, 0.75, 0.5, 0.5, 0.25, 0.25]
    h = 0.25
    assert float(out) == pytest.approx((1 - h + h * h / 2) ** 3 * (1 - h))
    assert float(heun(velocity, torch.ones(1, 1), timesteps[[0, -1]], lambda row: row)) == 0, "one step is Euler's"


SCHEDULES = [
    {"schedule": "linear"},
    {"schedule": "cosine"},
    {"schedule": "linear", "zero_terminal_snr": True},
    {"schedule": "cosine", "zero_terminal_snr": True},
]


def gaussian_prediction(objective: DDPM, mean: float, std: float):
    """The exact prediction for x_0 ~ N(mean, std²), and learned variances of a step by one timestep."""

    def predict(x, timesteps):
        index = round(timesteps[0].item() * objective.config.num_timesteps)
        cumulative = objective.alphas_cumprod[index]
        a, b = cumulative.sqrt(), (1 - cumulative).sqrt()
        x_0 = mean + a * std**2 / (a**2 * std**2 + b**2) * (x - a * mean)
        epsilon = (x - a * x_0) / b
        y = {"epsilon": epsilon, "v": a * epsilon - b * x_0, "x0": x_0}[objective.config.prediction].to(x)
        if not objective.config.learn_sigma or index == 0:
            return torch.cat([y, torch.zeros_like(y)], 1) if objective.config.learn_sigma else y
        q = posterior(cumulative, objective.alphas_cumprod[index - 1])
        variance = q.variance + q.from_x0**2 * (b * std) ** 2 / (a**2 * std**2 + b**2)  # Var(x_0 | x_t) is spread, too
        fraction = (variance / q.variance).log() / (q.beta / q.variance).log()
        return torch.cat([y, (2 * fraction - 1).to(y).expand_as(y)], 1)

    return predict


def sampled_gaussian(objective: DDPM, mean: float, std: float, **settings) -> tuple[torch.Tensor, torch.Tensor]:
    """What a sampler makes of noise, and what it should: the probability flow is affine."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4000, 1, dtype=torch.float64, generator=generator)
    out = denoise(
        gaussian_prediction(objective, mean, std),
        x,
        objective,
        SampleConfig(**settings),
        1,
        lambda: torch.randn(x.shape, dtype=x.dtype, generator=generator),
    )
    last = objective.alphas_cumprod[-1]  # some signal is kept
    return out, mean + std * (x - last.sqrt() * mean) / (last * std**2 + 1 - last).sqrt()


@pytest.mark.parametrize(
    "settings",
    [
        schedule | {"prediction": prediction}
        for schedule in SCHEDULES
        for prediction in ("epsilon", "v", "x0")
        if prediction != "epsilon" or "zero_terminal_snr" not in schedule
    ],
    ids=str,
)
@pytest.mark.parametrize(("sampler", "order"), [("ddim", 1), ("dpm-solver++", 2)])
def test_a_ddpm_sampler_reaches_a_gaussian_target_at_its_order(sampler: str, order: int, settings: dict[str, Any]):
    """Halved steps have 2 ** order times smaller errors, also where they do not divide the timesteps evenly."""
    objective = DDPMConfig(**settings).build()
    errors = []
    for num_steps in (10, 20, 40, 80):
        out, expected = sampled_gaussian(objective, 1.5, 0.4, sampler=sampler, num_steps=num_steps)
        errors.append((out - expected).abs().mean().item())
    assert errors[-1] < 0.02
    assert math.log2(errors[0] / errors[-1]) / 3 > order - 0.15
    if order == 1:
        assert all(a / b == pytest.approx(2, rel=0.1) for a, b in pairwise(errors))


@pytest.mark.parametrize(
    "settings",
    [{}, {"learn_sigma": True}, {"schedule": "cosine"}, {"zero_terminal_snr": True, "prediction": "v"}],
    ids=str,
)
def test_ancestral_sampling_reaches_a_gaussian_target(settings: dict[str, Any]):
    """With all timesteps the reverse process has the target's mean and, with the exact variances, its width."""
    objective = DDPMConfig(**settings).build()
    out, _ = sampled_gaussian(objective, 1.5, 0.4, sampler="ddpm", num_steps=1000)
    assert out.mean().item() == pytest.approx(1.5, abs=0.03)
    assert out.std().item() == pytest.approx(0.4, rel=0.04)


@pytest.mark.parametrize("learn_sigma", [False, True])
def test_ancestral_steps_are_those_of_diffusers(learn_sigma: bool):
    """By its scheduler, where the steps divide the timesteps evenly."""
    objective, generator = DDPMConfig(learn_sigma=learn_sigma).build(), torch.Generator().manual_seed(0)
    noise = [torch.randn(6, 3, generator=generator, dtype=torch.float64) for _ in range(20)]

    def predict(x, timesteps):
        return torch.cat([x.sin(), x.cos()], 1) if learn_sigma else x.sin()

    scheduler = DDPMScheduler(
        trained_betas=betas(objective.config).numpy(),
        variance_type="learned_range" if learn_sigma else "fixed_small",
        timestep_spacing="trailing",
        clip_sample=False,
    )
    scheduler.set_timesteps(20)
    expected, drawn = noise[0], iter([*noise[1:], torch.zeros(6, 3)])  # it adds noise to the data, too
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, **__: next(drawn))
        for number in scheduler.timesteps.tolist():
            expected = scheduler.step(predict(expected, None), number, expected).prev_sample
    fresh = iter(noise[1:])
    out = denoise(predict, noise[0], objective, SampleConfig(sampler="ddpm", num_steps=20), 1, lambda: next(fresh))
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)


def test_more_steps_than_timesteps_are_refused():
    with pytest.raises(ValueError, match="got 20, and the run has 10 timesteps"):
        sampled_gaussian(DDPMConfig(num_timesteps=10).build(), 0, 1, num_steps=20)


def test_a_sampler_of_the_other_family_is_refused(samples: list[Sample]):
    batch = pack(samples, (1, 2, 2), 12)
    with pytest.raises(ValueError, match="a flow is sampled by euler or heun, got ddim"):
        guided(lambda *_: batch.noise, batch, RectifiedFlow(FlowConfig()), SampleConfig(sampler="ddim"), (1, 2, 2))
    with pytest.raises(ValueError, match=r"a DDPM is sampled by ddim, dpm-solver\+\+ or ddpm, got heun"):
        guided(lambda *_: batch.noise, batch, DDPMConfig().build(), SampleConfig(sampler="heun"), (1, 2, 2))


def test_guidance_of_unlike_segments_moves_each_by_its_own_caption_and_timesteps(samples: list[Sample]):
    """Two samples of unlike token counts, timesteps shifted by them; the "model" is Gaussian, its mean the caption."""
    captions = [1.0, -2.0]
    chosen = [samples[0], samples[3]]
    both = [(s, torch.full((1, 12), m)) for s, m in zip(chosen, captions, strict=True)] + [(s, None) for s in chosen]
    batch = pack(
        [Sample(clip_id="", latent=s.noise, noise=s.noise, timestep=1.0, fps=8.0, text=text) for s, text in both],
        (1, 2, 2),
        12,
    )

    def model(x, timesteps, batch):
        mean = batch.segments.gather(batch.text_segments.mean(batch.text)[:, :1])  # 0 without a caption
        t = batch.segments.gather(timesteps)[:, None]
        return gaussian_velocity(mean, 0.5)(x, t)

    objective = RectifiedFlow(FlowConfig(shift_base_tokens=16))
    out = guided(model, batch, objective, SampleConfig(num_steps=200, guidance=1.5), (1, 2, 2))
    first, second = out.split(batch.segments.lengths[:2])
    noise = batch.noise.split(batch.segments.lengths)
    # Guidance is linear in the velocity, and so in the mean: the target's mean is 1.5 × the caption's.
    torch.testing.assert_close(first, 1.5 * captions[0] + 0.5 * noise[0], atol=0.03, rtol=0)
    torch.testing.assert_close(second, 1.5 * captions[1] + 0.5 * noise[1], atol=0.03, rtol=0)


@pytest.mark.parametrize(
    ("objective", "sampler"),
    [
        (FlowConfig(), "euler"),
        (FlowConfig(), "heun"),
        (DDPMConfig(), "ddim"),
        (DDPMConfig(), "dpm-solver++"),
        (DDPMConfig(), "ddpm"),
    ],
)
def test_given_tokens_are_shown_clean_and_come_out_unchanged(objective, sampler: str, samples: list[Sample]):
    patch, first_frame = (1, 2, 2), torch.arange(18) < 6  # of 3 × 2 × 3 patches
    batch = pack([replace(samples[0], clean_mask=first_frame), samples[1]] * 2, patch, 12)
    seen = []

    def model(x, timesteps, batch):
        seen.append(x)
        return torch.ones_like(x)

    out = guided(model, batch, objective.build(), SampleConfig(sampler=sampler, num_steps=4), patch)
    given, tokens = ~batch.loss_mask[: len(out)], batch.tokens[: len(out)]
    assert given.sum() == 6 and torch.equal(out[given], tokens[given])
    assert all(torch.equal(half[given], tokens[given]) for x in seen for half in x.chunk(2))
    assert not torch.isclose(out[~given], tokens[~given]).all(1).any()


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_a_video_is_the_same_in_any_pack(sampler: str, samples: list[Sample]):
    """Noise is keyed by the sample; nothing else of the pack is seen."""
    shape = DiTConfig(width=32, depth=1, num_heads=2)
    model = DiT(shape, channels=4, text_dim=12, num_outputs=2)
    torch.nn.init.normal_(model.final.linear.weight, std=0.1)
    objective = DDPMConfig(learn_sigma=True).build()

    def made(chosen: list[Sample]) -> list[torch.Tensor]:
        settings = SampleConfig(sampler=sampler, num_steps=3, guidance=2)
        return generate(model, chosen, objective, settings, shape, 12, torch.device("cpu"))

    together = made(samples)
    apart = [latent for i in range(len(samples)) for latent in made(samples[i : i + 1])]
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("sampler", ["ddim", "dpm-solver++", "ddpm"])
@pytest.mark.parametrize("num_frames", [1, 3])
def test_a_lone_frame_in_a_tubelet_has_the_width_of_the_data(sampler: str, num_frames: int):
    """By the exact ε of data N(0, 1), which says of copies of one frame what the model says: the mean of theirs."""
    objective, patch = DDPMConfig().build(), (2, 2, 2)
    shape = DiTConfig(width=24, depth=1, num_heads=2, patch=patch, text="none", condition_on_fps=False)

    def exact(x, timesteps, batch):
        cumulative = objective.alphas_cumprod[(timesteps * 1000).round().long()]
        noise = batch.segments.gather((1 - cumulative).sqrt())[:, None].float() * x
        copies = noise.unflatten(-1, (-1, patch[0], 4))
        tied = copies.mean(2, keepdim=True).expand_as(copies).flatten(1)
        return torch.where(batch.layout.lone_frames[:, None], tied, noise)

    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(8, num_frames, 32, 32, generator=generator)
    one = Sample(clip_id="0", latent=torch.zeros_like(noise), noise=noise, timestep=1.0, fps=8.0, text=None)
    settings = SampleConfig(sampler=sampler, num_steps=100, guidance=1)
    (latent,) = generate(exact, [one], objective, settings, shape, 1, torch.device("cpu"))
    assert latent[:, 0].std().item() == pytest.approx(1, abs=0.08)  # of the posterior's variance in 100 steps: 0.95
    assert latent.std().item() == pytest.approx(1, abs=0.08)


def test_ancestral_noise_is_of_the_sample_and_the_seed(samples: list[Sample]):
    """Two samples that are alike but for their ids, and one sample under two seeds, do not get one noise."""
    shape = DiTConfig(width=32, depth=1, num_heads=2)
    objective = DDPMConfig().build()

    def made(clip_ids: list[str], seed: int = 0) -> list[torch.Tensor]:
        chosen = [replace(samples[0], clip_id=clip_id) for clip_id in clip_ids]
        settings = SampleConfig(sampler="ddpm", num_steps=3, guidance=1, seed=seed)
        return generate(lambda x, *_: 0 * x, chosen, objective, settings, shape, 12, torch.device("cpu"))

    a, b = made(["a", "b"])
    assert not torch.isclose(a, b).any(dim=0).all()
    assert torch.equal(made(["b"])[0], b)
    assert not torch.isclose(made(["a"], seed=1)[0], a).any(dim=0).all()


def test_guidance_leaves_out_caption_and_label_together_and_keeps_the_captions_variances(samples: list[Sample]):
    """The model says nothing of the data, and of the variance the most under a caption and the least without."""
    shape = DiTConfig(width=32, depth=1, num_heads=2, num_classes=3)
    objective, asked = DDPMConfig(learn_sigma=True).build(), []

    def model(x, timesteps, batch):
        asked.append((batch.has_caption.tolist(), batch.labels.tolist()))
        variance = batch.segments.gather(torch.where(batch.has_caption, 1.0, -1.0))[:, None]
        return torch.cat([0 * x, variance.expand_as(x)], dim=1)

    def made(guidance: float) -> list[torch.Tensor]:
        chosen = [replace(samples[i], label=2) for i in (0, 3)]
        settings = SampleConfig(sampler="ddpm", num_steps=5, guidance=guidance)
        return generate(model, chosen, objective, settings, shape, 12, torch.device("cpu"))

    for guided_latent, captioned in zip(made(3), made(1), strict=True):
        torch.testing.assert_close(guided_latent, captioned)
    assert asked[0] == ([True, True, False, False], [2, 2, -1, -1])
    assert asked[-1] == ([True, True], [2, 2])


@pytest.mark.parametrize("guidance", [0, 1])
def test_without_guidance_half_of_the_work_is_left_out(guidance: int, samples: list[Sample]):
    """And the result is that of combining both halves."""
    shape = DiTConfig(width=32, depth=1, num_heads=2)
    model = DiT(shape, channels=4, text_dim=12)
    torch.nn.init.normal_(model.final.linear.weight, std=0.1)
    torch.nn.init.normal_(model.blocks[0].cross_attention.out.weight, std=0.5)
    num_tokens = []

    def counting(x, timesteps, batch):
        num_tokens.append(len(x))
        return model(x, timesteps, batch)

    def made(guidance: float) -> list[torch.Tensor]:
        settings = SampleConfig(num_steps=2, guidance=guidance)
        objective, device = FlowConfig().build(), torch.device("cpu")
        return generate(counting, samples, objective, settings, shape, 12, device)

    for exact, near in zip(made(guidance), made(guidance + 1e-7), strict=True):
        torch.testing.assert_close(exact, near, atol=1e-4, rtol=1e-4)
    assert num_tokens[0] * 2 == num_tokens[-1]


@pytest.mark.parametrize(("guidance", "most"), [(1, 100), (4, 50)])
def test_packs_stay_within_the_budget_with_what_guidance_adds(guidance: float, most: int):
    counts = [30, 20, 50, 10, 40]
    packs = packs_to_generate(counts, SampleConfig(guidance=guidance), PlanConfig(token_budget=100))
    assert sorted(i for indices in packs for i in indices) == [0, 1, 2, 3, 4]
    assert max(sum(counts[i] for i in indices) for indices in packs) == most
