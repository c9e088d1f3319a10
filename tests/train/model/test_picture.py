"""States of pictures and shown channels: packed = one by one, and what has no picture is as if there were none."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.train.model.conftest import CHANNELS, output, packed
from tests.train.model.test_packed_equals_alone import check_packed_equals_alone, settings_of
from train.model.dit import DiT
from train.model.dit_config import DiTConfig
from train.packing.batch import Sample
from train.packing.shapes import SHOWN

SETTINGS = settings_of("joint", "adaln_zero", picture={"dim": 10, "positions": 4}, shown_channels=5, qk_norm="width")


@pytest.fixture
def seeing(mixed_samples: list[Sample]) -> list[Sample]:
    """Each is shown channels; the second has no picture."""
    generator = torch.Generator().manual_seed(5)
    made = [
        replace(
            one,
            picture=torch.randn(number + 1, 10, generator=generator),
            conditioning={SHOWN: torch.randn(5, *one.latent.shape[1:], generator=generator)},
        )
        for number, one in enumerate(mixed_samples)
    ]
    return [made[0], replace(made[1], picture=None), *made[2:]]


def test_samples_with_and_without_a_picture_are_packed_as_one_by_one(
    redrawn: Callable[..., DiT], seeing: list[Sample]
):
    check_packed_equals_alone(redrawn(**SETTINGS), seeing)


@torch.no_grad()
def test_what_a_sample_is_shown_changes_it_alone(redrawn: Callable[..., DiT], seeing: list[Sample]):
    model = redrawn(**SETTINGS)
    first, *others = seeing
    expected = output(model, seeing)
    for changed in (
        replace(first, picture=first.picture.flip(1)),
        replace(first, picture=None),
        replace(first, conditioning={SHOWN: -first.conditioning[SHOWN]}),
    ):
        found = output(model, [changed, *others])
        assert (found[0] - expected[0]).abs().max() > 1e-3
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found[1:], expected[1:], strict=True))
    # Absent channels are zeros, and without any picture its layers say nothing.
    bare = [replace(one, picture=None, conditioning={}) for one in seeing]
    zeros = {SHOWN: torch.zeros_like(first.conditioning[SHOWN])}
    torch.testing.assert_close(output(model, bare)[0], output(model, [replace(bare[0], conditioning=zeros)])[0])
    assert model.embed.in_features == (CHANNELS + 5) * 4


def test_flops_of_pictures_are_counted(redrawn: Callable[..., DiT], seeing: list[Sample]):
    model = redrawn(**SETTINGS)
    batch = packed(model, seeing)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        model(batch.tokens, batch.timesteps, batch)
    assert model.flops(batch) == counter.get_total_flops()


def test_what_does_not_fit_is_refused(redrawn: Callable[..., DiT], seeing: list[Sample]):
    with pytest.raises(ValueError, match="the pack has states of pictures, and the model reads none"):
        output(redrawn(), [replace(one, conditioning={}) for one in seeing])
    longer = replace(seeing[0], picture=torch.zeros(5, 10))
    with pytest.raises(ValueError, match=r"a picture of 5 states, and train\.model\.picture\.positions is 4"):
        output(redrawn(**SETTINGS), [longer])
    for changed in ({"text": "in_context"}, {"text": "none"}):
        with pytest.raises(ValidationError, match="picture is read by cross-attention over captions"):
            DiTConfig.model_validate({"picture": {"dim": 4}, **changed})


def test_a_pack_without_pictures_trains_as_it_is_sampled(redrawn: Callable[..., DiT], seeing: list[Sample]):
    """Of replicas every weight needs a gradient."""
    model, bare = redrawn(**SETTINGS), packed(redrawn(**SETTINGS), [replace(one, picture=None) for one in seeing])
    out = model.train()(bare.tokens, bare.timesteps, bare)
    out.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert not any(parameter.grad.any() for parameter in model.picture.parameters())
    with torch.no_grad():
        assert torch.equal(out, model.eval()(bare.tokens, bare.timesteps, bare))
