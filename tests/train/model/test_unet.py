"""The U-Net on packs: packed = one by one, exact image networks, what is given and what is refused."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.support.plain_unet import plain_forward
from tests.train.model.conftest import CHANNELS, TEXT_DIM
from tests.train.model.test_packed_equals_alone import check_packed_equals_alone
from train.model.unet.config import UNetConfig
from train.model.unet.network import UNet
from train.packing.batch import PackedBatch, Sample, pack
from train.packing.patches import grid_positions
from train.run.config import TrainConfig
from train.run.init import initialize

SMALL: dict[str, Any] = {
    "width": 16, "multipliers": (1, 2, 2), "depths": (1, 1, 1), "attention_levels": (1, 2), "head_width": 8,
    "num_groups": 4, "condition_width": 24,
}  # fmt: skip
EVERYTHING: dict[str, Any] = {
    "num_classes": 3, "conditions": ("motion", "height"), "conditioning_latents": {"low_resolution": CHANNELS},
}  # fmt: skip
SHAPES = [(3, 6, 5), (1, 7, 4), (2, 6, 5), (1, 6, 5), (3, 6, 5)]
TEMPORAL, TEXT = ("attention", "convolution", "none"), ("cross_attention", "pooled", "none")
PAIRS = list(itertools.product(TEMPORAL, TEXT))


def redrawn(*, seed: int = 1, **settings: Any) -> UNet:
    """A model in which no weight is zero."""
    model = UNet(UNetConfig.model_validate(SMALL | settings), channels=CHANNELS, text_dim=TEXT_DIM)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            around = 1.0 if name.endswith("norm.weight") else 0.0
            parameter.copy_(around + 0.1 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.fixture
def odd_samples() -> list[Sample]:
    """Videos and images, most of odd sides, some of equal ones; of one the first frame is given, of one a corner."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    samples = [
        Sample(
            clip_id=f"clip-{i}",
            latent=drawn(CHANNELS, *shape),
            noise=drawn(CHANNELS, *shape),
            timestep=(i + 0.5) / len(SHAPES),
            fps=0.0 if shape[0] == 1 else 8.0 * (i + 1),
            text=None if i == 1 else drawn(i + 1, TEXT_DIM),
            label=i if i < 3 else None,
            scalars={"motion": 0.3 * i} if i else {"height": 720.0},
            conditioning={"low_resolution": drawn(CHANNELS, *shape)} if i % 2 else {},
            noise_levels={"low_resolution": 0.1 * i} if i % 2 else {},
        )
        for i, shape in enumerate(SHAPES)
    ]
    samples[2] = replace(samples[2], clean_mask=torch.arange(60) < 30)
    samples[4] = replace(samples[4], clean_mask=(grid_positions((3, 6, 5))[:, 1:] < 2).all(1))
    return samples


def packed(model: UNet, samples: list[Sample]) -> PackedBatch:
    return pack(samples, model.config.patch, TEXT_DIM, model.config.conditions)


def output(model: UNet, samples: list[Sample]) -> list[Tensor]:
    batch = packed(model, samples)
    with torch.no_grad():
        return list(model(batch.tokens, batch.timesteps, batch).split(batch.segments.lengths))


@pytest.mark.parametrize(("temporal", "text"), PAIRS)
def test_packed_outputs_loss_and_gradients_equal_one_by_one(odd_samples: list[Sample], temporal: str, text: str):
    check_packed_equals_alone(redrawn(temporal=temporal, text=text, **EVERYTHING), odd_samples, atol=3e-5)


@pytest.mark.parametrize(("temporal", "text"), PAIRS)
@pytest.mark.parametrize("shape", [(3, 8, 4), (2, 7, 5), (1, 5, 6)])
def test_equal_shapes_are_what_a_network_of_fixed_shapes_makes_of_them(
    shape: tuple[int, int, int], temporal: str, text: str
):
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, CHANNELS, *shape, generator=generator)
    texts = torch.randn(2, 3, TEXT_DIM, generator=generator)
    samples = [
        Sample(clip_id=str(i), latent=latent, noise=latent, timestep=0.3 + i / 2, fps=8.0, text=texts[i])
        for i, latent in enumerate(latents)
    ]
    model = redrawn(temporal=temporal, text=text)
    ours = torch.stack([part.T.unflatten(1, shape) for part in output(model, samples)])  # (2, C, T, H, W)
    with torch.no_grad():
        torch.testing.assert_close(ours, plain_forward(model, latents, packed(model, samples)), atol=1e-5, rtol=1e-4)


def test_tubelets_packed_equal_one_by_one(samples: list[Sample]):
    two_levels: dict[str, Any] = {"multipliers": (1, 2), "depths": (1, 1), "attention_levels": (0,)}
    check_packed_equals_alone(redrawn(patch=(2, 2, 2), **two_levels), samples, atol=3e-5)


@pytest.mark.parametrize(("temporal", "text"), PAIRS)
def test_order_of_samples_and_choice_of_pack_change_nothing(odd_samples: list[Sample], temporal: str, text: str):
    model = redrawn(temporal=temporal, text=text, **EVERYTHING)
    reference = output(model, odd_samples)
    for order in ([4, 2, 0, 3, 1], [3, 1]):
        for i, part in zip(order, output(model, [odd_samples[i] for i in order]), strict=True):
            torch.testing.assert_close(part, reference[i], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("temporal", "text"), PAIRS)
def test_replacing_one_sample_by_noise_changes_exactly_nothing_elsewhere(
    odd_samples: list[Sample], temporal: str, text: str
):
    model = redrawn(temporal=temporal, text=text, **EVERYTHING)
    reference = output(model, odd_samples)
    for j in (0, 2):
        noisy = replace(
            odd_samples[j],
            latent=100 * torch.randn_like(odd_samples[j].latent),
            timestep=1 - odd_samples[j].timestep,
            fps=60.0,
            label=1,
            scalars={"motion": 50.0, "height": 30.0},
            text=100 * torch.randn_like(odd_samples[j].text),
        )
        changed = output(model, [*odd_samples[:j], noisy, *odd_samples[j + 1 :]])
        differences = [(a - b).abs().max().item() for a, b in zip(changed, reference, strict=True)]
        assert differences.pop(j) > 0.1
        assert differences == [0.0] * (len(odd_samples) - 1)


@pytest.mark.parametrize("temporal", ["attention", "convolution"])
def test_an_image_is_exactly_what_the_image_network_makes_of_it(odd_samples: list[Sample], temporal: str):
    """With any weights: images skip the temporal layers."""
    videos, images = redrawn(temporal=temporal), redrawn(seed=2, temporal="none")
    images.load_state_dict({name: videos.state_dict()[name] for name in images.state_dict()})
    plain = [replace(sample, conditioning={}) for sample in odd_samples]
    for sample, ours, theirs in zip(plain, output(videos, plain), output(images, plain), strict=True):
        assert torch.equal(ours, theirs) == (sample.latent.shape[1] == 1)


@pytest.mark.parametrize("temporal", ["attention", "convolution"])
def test_an_image_network_begins_a_video_network_that_gives_the_same_of_every_frame(
    odd_samples: list[Sample], tmp_path: Path, temporal: str
):
    images = redrawn(temporal="none", text="none", condition_on_fps=False)
    images.save_pretrained(tmp_path)
    videos = redrawn(seed=2, temporal=temporal, **EVERYTHING)
    videos.initialize_weights()
    initialize(videos, tmp_path, "central")
    plain = [replace(sample, conditioning={}) for sample in odd_samples]
    for ours, theirs in zip(output(videos, odd_samples), output(images, plain), strict=True):
        assert torch.equal(ours, theirs)


def test_an_image_network_of_another_shape_is_refused_with_what_differs(tmp_path: Path):
    redrawn(attention_levels=(2,)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"train\.model\.attention_levels=\[2\] \(here \[1, 2\]\)"):
        initialize(redrawn(), tmp_path, "central")


@pytest.mark.parametrize(("temporal", "text"), PAIRS)
def test_counted_flops_are_those_of_the_flop_counter(odd_samples: list[Sample], temporal: str, text: str):
    model = redrawn(temporal=temporal, text=text, **EVERYTHING)
    batch = packed(model, odd_samples)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        model(batch.tokens, batch.timesteps, batch)
    assert model.flops(batch) == counter.get_total_flops() > 0
    assert model.flops(model.config.prepare(batch)) == model.flops(batch)


def test_captions_come_in_at_every_stage_and_frames_attend_at_the_chosen_levels_alone():
    """As Imagen Video's models for super-resolution: none at the first, the highest resolution."""
    model = redrawn(temporal="convolution")
    attends = {
        shape.level for block, shape in zip(model.blocks, model.config.block_shapes, strict=True) if block.spatial
    }
    assert attends == {1, 2} and all(block.cross is not None for block in model.blocks)


def test_given_frames_are_at_timestep_zero(odd_samples: list[Sample]):
    """Frames that never meet tell what steers each: the given one does not follow the timestep of the sample."""
    model = redrawn(temporal="none")
    samples = [replace(odd_samples[2], timestep=timestep, conditioning={}) for timestep in (0.2, 0.9)]
    early, late = (output(model, [sample])[0] for sample in samples)
    assert torch.equal(early[:30], late[:30]) and not torch.isclose(early[30:], late[30:]).all(0).any()


def test_frames_meet_in_temporal_layers_alone(odd_samples: list[Sample]):
    (first, *_), changed = odd_samples, odd_samples[0].latent.clone()
    changed[:, 2] += 1
    for temporal in TEMPORAL:
        samples = [replace(first, latent=latent, conditioning={}) for latent in (first.latent, changed)]
        model = redrawn(temporal=temporal)
        before, after = (output(model, [sample])[0] for sample in samples)
        assert torch.equal(before[:30], after[:30]) == (temporal == "none")


def test_features_of_every_block_are_one_row_per_patch(odd_samples: list[Sample]):
    model = redrawn(**EVERYTHING)
    batch = packed(model, odd_samples)
    for block in range(model.config.num_blocks):
        _, features = model(batch.tokens, batch.timesteps, batch, features_of=block)
        assert features.shape == (batch.segments.num_tokens, model.config.feature_dim(block))


def test_dropped_tokens_are_refused_before_the_first_step_and_in_a_pack(odd_samples: list[Sample]):
    with pytest.raises(ValidationError, match=r"drop\.distribution is uniform.*needs all tokens.*kind to dit"):
        TrainConfig.model_validate(
            {"model": {"kind": "unet"}, "data": {"epoch": {"drop": {"distribution": "uniform"}}}}
        )
    batch = packed(redrawn(), [replace(odd_samples[0], kept=torch.tensor([0, 3, 4]))])
    with pytest.raises(ValueError, match=r"clip-0: got 3 of 90 tokens.*drop\.distribution=none"):
        UNetConfig.model_validate(SMALL).prepare(batch)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depths": (1, 1)}, r"multipliers \(1, 2, 2\) and depths \(1, 1\); expected one of each per level"),
        ({"attention_levels": (3,)}, r"attention_levels \(3,\); expected some of \(0, 1, 2\)"),
        ({"num_groups": 3}, r"num_groups 3 and \(16, 32, 32\) channels"),
        ({"head_width": 12}, r"head_width 12 and \(16, 32, 32\) channels"),
    ],
)
def test_shapes_that_cannot_be_are_refused_with_what_can(settings: dict[str, Any], message: str):
    with pytest.raises(ValidationError, match=message):
        UNetConfig.model_validate(SMALL | settings)


@pytest.mark.parametrize(
    ("settings", "grid", "reason"),
    [
        ({}, (200, 64, 64), None),
        ({"temporal": "none"}, (2, 4, 4), "temporal=none"),
        ({"temporal": "none"}, (1, 64, 64), None),
        ({"temporal": "convolution"}, (9, 4, 4), None),
        ({"temporal": "convolution"}, (10, 4, 4), "8 blocks"),
        ({"attention_levels": ()}, (1, 16, 16), None),
        ({"attention_levels": ()}, (1, 16, 400), "attention_levels=[2]"),
    ],
)
def test_samples_that_reach_further_than_the_layers_are_told(
    settings: dict[str, Any], grid: tuple[int, int, int], reason: str | None
):
    found = UNetConfig.model_validate(SMALL | settings).islands(grid)
    assert found is None if reason is None else reason in str(found)
