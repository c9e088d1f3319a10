from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from train.objective.ddpm import DDPMConfig
from train.objective.flow import FlowConfig, RectifiedFlow
from train.run import TrainConfig
from train.sample import Request, SampleConfig, denoise, euler, guided, heun, latent_shape, most_start_frames
from train.segments import Sample, pack

LATENTS = {"channels": 4, "temporal_stride": 4, "spatial_stride": 8}


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


@pytest.mark.parametrize("prediction", ["epsilon", "v", "x0"])
@pytest.mark.parametrize("sampler", ["ddim", "dpm-solver++"])
def test_a_ddpm_sampler_reaches_a_gaussian_target(sampler: str, prediction: str):
    """The exact prediction for x_0 ~ N(mean, std²); steps err, and the last timestep keeps some signal."""
    mean, std = 1.5, 0.4
    objective = DDPMConfig(prediction=prediction).build()

    def predict(x, timesteps):
        cumulative = objective.alphas_cumprod[round(timesteps[0].item() * 1000)]
        a, b = cumulative.sqrt(), (1 - cumulative).sqrt()
        x_0 = mean + a * std**2 / (a**2 * std**2 + b**2) * (x - a * mean)
        epsilon = (x - a * x_0) / b
        return {"epsilon": epsilon, "v": a * epsilon - b * x_0, "x0": x_0}[prediction].to(x)

    x = torch.randn(4000, 1, generator=torch.Generator().manual_seed(0))
    errors = []
    for num_steps in (10, 20, 40):
        out = denoise(predict, x, objective, SampleConfig(sampler=sampler, num_steps=num_steps), 1)
        errors.append((out - (mean + std * x)).abs().mean().item())
    assert errors[2] < 0.03
    assert errors[2] < errors[0]


def test_a_sampler_of_the_other_family_is_refused(samples: list[Sample]):
    batch = pack(samples, (1, 2, 2), 12)
    with pytest.raises(ValueError, match="a flow is sampled by euler or heun, got ddim"):
        guided(lambda *_: batch.noise, batch, RectifiedFlow(FlowConfig()), SampleConfig(sampler="ddim"))
    with pytest.raises(ValueError, match=r"a DDPM is sampled by ddim or dpm-solver\+\+, got heun"):
        guided(lambda *_: batch.noise, batch, DDPMConfig().build(), SampleConfig(sampler="heun"))


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
    out = guided(model, batch, objective, SampleConfig(num_steps=200, guidance=1.5))
    first, second, *copies = out.split(batch.segments.lengths)
    noise = batch.noise.split(batch.segments.lengths)
    # Guidance is linear in the velocity, and so in the mean: the target's mean is 1.5 × the caption's.
    torch.testing.assert_close(first, 1.5 * captions[0] + 0.5 * noise[0], atol=0.03, rtol=0)
    torch.testing.assert_close(second, 1.5 * captions[1] + 0.5 * noise[1], atol=0.03, rtol=0)
    assert torch.equal(torch.cat(copies), torch.cat([first, second]))


def test_sizes_become_latent_grids_and_misfits_name_the_nearest():
    assert latent_shape(Request(prompt="", width=128, height=80, num_frames=17), LATENTS, (1, 2, 2)) == (4, 5, 10, 16)
    assert latent_shape(Request(prompt="", width=128, height=80, num_frames=1), LATENTS, (1, 2, 2)) == (4, 1, 10, 16)
    with pytest.raises(ValueError, match="17 frames of 128x80"):
        latent_shape(Request(prompt="", width=130, height=84, num_frames=16), LATENTS, (1, 2, 2))


@pytest.mark.parametrize(
    ("objective", "sampler"),
    [(FlowConfig(), "euler"), (FlowConfig(), "heun"), (DDPMConfig(), "ddim"), (DDPMConfig(), "dpm-solver++")],
)
def test_given_tokens_are_shown_clean_and_come_out_unchanged(objective, sampler: str, samples: list[Sample]):
    patch, first_frame = (1, 2, 2), torch.arange(18) < 6  # of 3 × 2 × 3 patches
    batch = pack([replace(samples[0], given=first_frame), samples[1]] * 2, patch, 12)
    seen = []

    def model(x, timesteps, batch):
        seen.append(x)
        return torch.ones_like(x)

    out = guided(model, batch, objective.build(), SampleConfig(sampler=sampler, num_steps=4))
    given = ~batch.loss_mask
    assert given.sum() == 12 and torch.equal(out[given], batch.tokens[given])
    assert all(torch.equal(x[given], batch.tokens[given]) for x in seen)
    assert not torch.isclose(out[~given], batch.tokens[~given]).all(1).any()


def test_any_length_that_was_trained_on_can_be_sampled():
    """Frames of a latent are whole patches, or one more."""
    for frames, num_latent in ((1, 1), (5, 2), (9, 3), (13, 4), (17, 5)):
        request = Request(prompt="", width=32, height=32, num_frames=frames)
        assert latent_shape(request, LATENTS, (2, 2, 2))[1] == num_latent
    with pytest.raises(ValueError, match="9 frames of 32x32"):
        latent_shape(replace(request, num_frames=9), LATENTS, (4, 2, 2))


def test_a_start_fills_whole_patches_and_is_what_the_run_was_trained_with():
    config = TrainConfig.model_validate({"data": {"given_probability": 0.5, "given_max_frames": 2}})
    request = Request(prompt="", width=32, height=32, num_frames=17)
    assert most_start_frames(request, config, LATENTS) == 2
    with pytest.raises(ValueError, match="two patches' length"):
        most_start_frames(replace(request, num_frames=1), config, LATENTS)
    with pytest.raises(ValueError, match="given_probability=0"):
        most_start_frames(request, TrainConfig(), LATENTS)
    tubelets = config.model_copy(update={"model": config.model.model_copy(update={"patch": (2, 2, 2)})})
    assert most_start_frames(request, tubelets, LATENTS) == 1  # 5 frames are 1 + 2 + 2, half of 3 patches is one
    assert most_start_frames(replace(request, num_frames=13), tubelets, LATENTS) == 2  # 4 frames are 2 + 2
