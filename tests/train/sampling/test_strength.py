"""Editing a video from the middle of the noise levels: SDEdit (Meng et al. 2021, §3)."""

import pytest
import torch
from torch import Tensor

from train.model.dit_config import DiTConfig
from train.objective.config import FlowConfig
from train.packing.batch import PackedBatch, Sample, pack
from train.sampling.config import SampleConfig
from train.sampling.generate import generate

SHAPE = DiTConfig(width=32, depth=1, num_heads=2)
CPU = torch.device("cpu")


def settings(strength: float) -> SampleConfig:
    return SampleConfig.model_validate({"num_steps": 10, "guidance": 1, "strength": strength})


@pytest.mark.parametrize(("strength", "num_asked"), [(0.4, 4), (0.01, 1), (1.0, 10)])
def test_the_last_steps_begin_with_the_video_and_as_much_noise(samples: list[Sample], strength: float, num_asked: int):
    seen: list[tuple[Tensor, Tensor]] = []

    def model(x: Tensor, timesteps: Tensor, batch: PackedBatch) -> Tensor:
        seen.append((x, timesteps))
        return batch.noise - batch.tokens  # the velocity of the video itself

    latents = generate(model, samples[:2], FlowConfig().build(), settings(strength), SHAPE, 12, CPU)
    assert len(seen) == num_asked
    batch, (x, timesteps) = pack(samples[:2], SHAPE.patch, 12), seen[0]
    t = num_asked / 10
    torch.testing.assert_close(timesteps, torch.full((2,), t))
    torch.testing.assert_close(x, (1 - t) * batch.tokens + t * batch.noise)
    for latent, sample in zip(latents, samples, strict=False):
        torch.testing.assert_close(latent, sample.latent, atol=1e-5, rtol=1e-5)
