"""Models with every parameter redrawn: at their zero initialisation equalities would be empty."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.support.models import dit_config
from train.model.dit import DiT
from train.packing.batch import PackedBatch, Sample, pack

CHANNELS, TEXT_DIM = 4, 12


@pytest.fixture
def redrawn() -> Callable[..., DiT]:
    def build(num_outputs: int = 1, **settings: Any) -> DiT:
        shape = {"width": 48, "depth": 2, "num_heads": 4, "spatial_window": (1, 2, 1), "spacetime_window": (2, 1, 2)}
        config = dit_config(**shape | {"max_grid": (8, 4, 4), "adaln_rank": 3} | settings)
        model = DiT(config, channels=CHANNELS, text_dim=TEXT_DIM, num_outputs=num_outputs)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(0.15 * torch.randn(parameter.shape, generator=generator))
        return model

    return build


@pytest.fixture
def mixed_samples(samples: list[Sample]) -> list[Sample]:
    """An image and videos with labels and numbers; of two videos tokens are dropped, and of one a frame is given."""
    video, _, image, both, dropped, _ = samples
    generator = torch.Generator().manual_seed(3)

    def some(sample: Sample, count: int) -> torch.Tensor:
        return torch.randperm(num_patches(sample), generator=generator)[:count].sort().values

    return [
        replace(video, label=2, scalars={"motion": 0.3, "height": 720.0}),
        replace(image, scalars={"height": 512.0}),
        replace(dropped, label=0, scalars={"motion": 0.7}, kept=some(dropped, 3)),
        replace(both, kept=torch.tensor([0, 1, 2, 3, 5]), clean_mask=torch.arange(num_patches(both)) < 2),
    ]


def num_patches(sample: Sample) -> int:
    return math.prod(sample.latent.shape[1:]) // 4


def packed(model: DiT, samples: list[Sample]) -> PackedBatch:
    return pack(samples, model.config.patch, TEXT_DIM, model.config.conditions)


def output(model: DiT, samples: list[Sample]) -> list[torch.Tensor]:
    batch = packed(model, samples)
    return list(model(batch.tokens, batch.timesteps, batch).split(batch.segments.lengths))


def gradients(model: DiT) -> dict[str, torch.Tensor]:
    grads = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    return grads
