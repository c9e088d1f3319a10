"""Conditioning latents: named tensors of a sample that a pack carries and a model reads."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from tests.train.model.conftest import output, packed
from train.model.dit import DiT
from train.packing.batch import Sample, pack
from train.packing.patches import patchify

LOW = {"low_resolution": 3}


def with_low(sample: Sample, seed: int) -> Sample:
    low = torch.randn(3, *sample.latent.shape[1:], generator=torch.Generator().manual_seed(seed))
    return replace(sample, conditioning={"low_resolution": low})


def test_a_pack_carries_named_latents_as_tokens_and_zeros_where_there_are_none(mixed_samples: list[Sample]):
    first, second, thinned, _ = mixed_samples
    samples = [with_low(first, 0), second, with_low(thinned, 1)]
    tokens = pack(samples, (1, 2, 2), 12).conditioning["low_resolution"]
    parts = tokens.split(pack(samples, (1, 2, 2), 12).segments.lengths)
    assert torch.equal(parts[0], patchify(samples[0].conditioning["low_resolution"], (1, 2, 2)))
    assert not parts[1].any()
    assert torch.equal(parts[2], patchify(samples[2].conditioning["low_resolution"], (1, 2, 2))[thinned.kept])


def test_moving_a_pack_moves_its_named_latents(mixed_samples: list[Sample]):
    batch = pack([with_low(mixed_samples[0], 0)], (1, 2, 2), 12).to("meta")
    assert batch.conditioning["low_resolution"].device.type == "meta"


def test_a_named_latent_steers_its_own_sample_alone(redrawn: Callable[..., DiT], mixed_samples: list[Sample]):
    model = redrawn(conditioning_latents=LOW)
    with torch.no_grad():
        without = output(model, mixed_samples)
        changed = output(model, [with_low(mixed_samples[0], 0), *mixed_samples[1:]])
    differences = [(a - b).abs().max().item() for a, b in zip(changed, without, strict=True)]
    assert differences[0] > 0.01 and differences[1:] == [0.0] * 3


def test_new_named_latents_start_without_effect_and_with_gradients(mixed_samples: list[Sample]):
    from train.model.dit_config import DiTConfig

    config = DiTConfig(width=48, depth=1, num_heads=4, conditioning_latents=LOW)
    model = DiT(config, channels=4, text_dim=12)
    assert not model.embed_conditioning.layers["low_resolution"].weight.any()
    batch = packed(model, mixed_samples)  # ranks of DDP wait for the gradient of a layer that no sample uses
    torch.nn.init.ones_(model.final.linear.weight)
    model(batch.tokens, batch.timesteps, batch).sum().backward()
    assert model.embed_conditioning.layers["low_resolution"].weight.grad is not None


def test_a_latent_that_the_model_does_not_read_is_refused(redrawn: Callable[..., DiT], mixed_samples: list[Sample]):
    with pytest.raises(ValueError, match=r"carries the conditioning latents low_resolution.*conditioning_latents"):
        output(redrawn(), [with_low(mixed_samples[0], 0)])
