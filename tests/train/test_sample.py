from itertools import pairwise

import pytest
import torch

from train.objective.flow import FlowConfig, RectifiedFlow
from train.sample import Request, euler, guided_euler, latent_shape
from train.segments import Sample, pack

LATENTS = {"channels": 4, "temporal_stride": 4, "spatial_stride": 8}


def gaussian_velocity(mean: float, std: float):
    """E[ε - x_0 | x_t] for x_0 ~ N(mean, std²), in closed form."""

    def velocity(x, t):
        variance = (1 - t) ** 2 * std**2 + t**2
        return -mean + (t - (1 - t) * std**2) / variance * (x - (1 - t) * mean)

    return velocity


def test_euler_reaches_a_gaussian_target_and_converges_at_order_one():
    mean, std, x = 1.5, 0.4, torch.randn(2000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    errors = []
    for num_steps in (50, 100, 200):
        timesteps = torch.linspace(1, 0, num_steps + 1, dtype=torch.float64)[:, None]
        out = euler(lambda x, t: gaussian_velocity(mean, std)(x, t), x, timesteps, lambda row: row.expand(len(x)))
        errors.append((out - (mean + std * x)).abs().mean().item())  # the flow's map is affine: ε → mean + std ε
    assert errors[-1] < 0.01
    assert all(a / b == pytest.approx(2, rel=0.2) for a, b in pairwise(errors))


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
    out = guided_euler(model, batch, objective, num_steps=200, guidance=1.5)
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
