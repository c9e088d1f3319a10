"""Adaptive layer norm in half precision."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from tests.train.model.conftest import output, packed
from train.model.conditioning import Conditions
from train.model.dit import DiT
from train.model.dit_config import DiTConfig
from train.model.modulation import Modulation
from train.packing.batch import Sample


def conditions(rows: torch.Tensor) -> Conditions:
    condition_ids = torch.arange(len(rows))
    return Conditions(vectors=rows, condition_ids=condition_ids, shared=None, context=None, context_segments=None)


@pytest.mark.parametrize("adaln", ["block", "lora"])
def test_small_scales_are_told_apart_in_bfloat16(adaln: str):
    """1 + scale in bfloat16 has steps of 1/128: scales up to 0.02, where adaLN-Zero begins, would be nine."""
    config = DiTConfig(width=24, num_heads=2, adaln=adaln, adaln_rank=4)
    modulation = Modulation(config, 2)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in modulation.parameters():
            parameter.copy_(0.005 * torch.randn(parameter.shape, generator=generator))
    rows, x = torch.randn(50, 24, generator=generator), torch.ones(50, 24)
    expected = modulation(conditions(rows))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        modulations = modulation(conditions(rows.bfloat16()))
        for parameters, exact in zip(modulations, expected, strict=True):
            torch.testing.assert_close(parameters.modulate(x), exact.modulate(x), atol=2e-4, rtol=0)
            assert parameters.added(x.bfloat16(), x.bfloat16()).dtype == torch.bfloat16, (
                "the residual stream keeps its type"
            )


@pytest.mark.parametrize("adaln", ["block", "lora", "shared"])
def test_the_models_answer_moves_with_a_small_scale_in_bfloat16(
    redrawn: Callable[..., DiT], samples: list[Sample], adaln: str
):
    """The last modulation's scale by +0.002: in steps of 1/128 it is none."""
    model = redrawn(adaln=adaln)
    torch.nn.init.zeros_(model.final.modulation.weight)
    torch.nn.init.zeros_(model.final.modulation.bias)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        seen = []
        model.final.linear.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].float()))
        output(model, samples)
        model.final.modulation.bias[48:] = 0.002
        torch.clear_autocast_cache()
        output(model, samples)
    torch.testing.assert_close(seen[1], seen[0] * 1.002, rtol=1e-6, atol=1e-6)


def test_timesteps_are_embedded_in_float32(redrawn: Callable[..., DiT], samples: list[Sample]):
    model = redrawn()
    batch = packed(model, [replace(sample, text=None) for sample in samples])
    exact = model.conditioner.timestep(batch.timesteps)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model.conditioner.timestep(batch.timesteps), exact)


def test_given_tokens_are_told_that_they_are_clean(redrawn: Callable[..., DiT], mixed_samples: list[Sample]):
    """Their row of conditions is their sample's at t = 0."""
    model = redrawn()
    batch = packed(model, mixed_samples)
    rows, _, _ = model.conditioner(batch.timesteps, batch)
    clean, _, _ = model.conditioner(torch.zeros_like(batch.timesteps), batch)
    num_samples = len(mixed_samples)
    assert batch.condition_segments[num_samples:].tolist() == [3], "one sample has given tokens"
    torch.testing.assert_close(rows[num_samples:], clean[3:4])
    assert not torch.isclose(rows[3], clean[3], atol=1e-3).all()
    assert set(batch.condition_ids[~batch.loss_mask].tolist()) == {num_samples}
