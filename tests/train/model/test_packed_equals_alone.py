"""Packed = one by one, for every conditioning, pattern and position; on samples with dropped and given tokens."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import pytest
import torch

from tests.train.model.conftest import gradients, output, packed
from train.model.dit import DiT
from train.model.dit_config import Conditioning, Position
from train.model.mixers.attention_config import Pattern
from train.objective.config import FlowConfig
from train.objective.flow import RectifiedFlow
from train.packing.batch import PackedBatch, Sample

PATTERNS, CONDITIONINGS, POSITIONS = (get_args(family) for family in (Pattern, Conditioning, Position))
EVERYTHING = {"num_classes": 3, "conditions": ("motion", "height")}


def settings_of(pattern: str, conditioning: str, position: str = "rope", **more: object) -> dict[str, object]:
    depth = 4 if pattern == "windows" else 2
    shape = {"depth": depth, "shift_windows": True, "reference_fps": 16.0}
    return shape | EVERYTHING | {"pattern": pattern, "conditioning": conditioning, "position": position} | more


VARIANTS = [
    settings_of("joint", "adaln_zero", text="in_context"),
    settings_of("alternating", "cross_attention", text="in_context"),
    settings_of("factorized_dot_product", "in_context", text="in_context"),
    settings_of("windows", "adaln", text="in_context"),
    settings_of("factorized_self_attention", "adaln_zero", text="none", adaln="lora"),
    settings_of("joint", "adaln", text="pooled", adaln="shared"),
    settings_of("joint", "adaln_zero", embedders_per_block=True, qk_norm=False, num_outputs=2),
    settings_of("joint", "adaln_zero", rope_grid=(2, 2, 2)),
    settings_of(
        "joint",
        "adaln_zero",
        adaln="shared",
        final_adaln="table",
        qk_norm="width",
        text_padding=8,
        cross_attention_norm="affine",
        caption={"norm": False, "pooled": False, "absent": "zeros"},
    ),  # Wan
    settings_of(
        "alternating",
        "adaln_zero",
        "sincos",
        qk_norm=False,
        cross_attention_in="spatial",
        cross_attention_norm="none",
        sincos_extent=6.0,
        frame_positions="temporal",
        condition_on_size=8,
    ),  # Latte, with the sizes of PixArt-α
]

VARIANTS += [
    settings_of(
        "joint",
        "adaln_zero",
        rope_span=(5.0, 9.0, 9.0),
        frame_lag=0.5,
        norm="rms",
        qk_norm="width",
        qk_norm_eps=1e-5,
        cross_attention_norm="none",
    ),  # LTX-Video
    settings_of(
        "joint", "adaln_zero", "none", mlp="gated_convolution", cross_attention_heads=3, caption={"out_norm": True}
    ),
    settings_of("joint", "in_context", "sincos", mlp="gated_convolution"),
]

WALT: dict[str, object] = {
    "pattern": "windows", "spatial_window": (1, None, None), "spacetime_window": (None, 1, 2), "depth": 4,
    "adaln": "lora", "cross_attention_in": "spatial", "cross_attention_over": "joint",
}  # fmt: skip
"""Windows, adaptive norms and captions of W.A.L.T (Gupta et al. 2023, §3.2–3.3)."""
WALTS = [
    WALT | EVERYTHING | {"conditioning": "adaln_zero"},
    WALT | EVERYTHING | {"conditioning": "adaln", "position": "absolute"},
    WALT | EVERYTHING | {"conditioning": "cross_attention", "adaln": "block", "text": "pooled"},
    WALT | EVERYTHING | {"conditioning": "in_context", "adaln": "block", "cross_attention_in": "all"},
]

LINEAR_MIXERS: dict[str, dict[str, object]] = {
    "mamba": {"kind": "mamba", "chunk": 4, "state": 5},
    "mamba_along_time": {"kind": "mamba", "chunk": 7, "state": 5, "orders": ["wth", "hwt"]},
    "sliding_attention": {"kind": "sliding_attention", "reach": 3},
    "linear_attention": {"kind": "linear_attention", "bias": False},
    "linear_attention_in_frames": {"kind": "linear_attention", "pattern": "spatial"},
    "samba": {"kind": "samba", "mamba": {"chunk": 5, "state": 6}, "attention": {"reach": 4, "orders": ["twh"]}},
}


def linear_settings(mixer: str, conditioning: str, **more: object) -> dict[str, object]:
    return {**EVERYTHING, "mixer": LINEAR_MIXERS[mixer], "conditioning": conditioning, "position": "sincos", **more}


def name(settings: dict[str, object]) -> str:
    return "-".join(str(value) for key, value in settings.items() if key not in EVERYTHING)


def outputs_loss_and_gradients(
    model: DiT, packs: list[list[Sample]]
) -> tuple[list[torch.Tensor], float, dict[str, torch.Tensor]]:
    """Of a step over `packs`: the velocity of each sample, the loss and its gradients."""
    objective, outputs, total = RectifiedFlow(FlowConfig()), [], 0.0
    for samples in packs:
        batch = packed(model, samples)

        def velocity(x: torch.Tensor, timesteps: torch.Tensor, batch: PackedBatch) -> torch.Tensor:
            out = model(x, timesteps, batch)
            outputs.extend(out.detach().split(batch.segments.lengths))
            return out[:, : x.shape[1]] + out[:, -x.shape[1] :]  # with learned variances, both halves count

        token_losses = objective.token_losses(velocity, batch) * batch.loss_mask
        loss = objective.loss_sum(token_losses, batch)
        loss.backward()
        total += loss.item()
    return outputs, total, gradients(model)


def check_packed_equals_alone(model: DiT, samples: list[Sample], atol: float = 1e-5) -> None:
    """`atol`: of gradients, relative to the largest of a parameter."""
    together, loss, grads = outputs_loss_and_gradients(model, [samples])
    alone, loss_alone, grads_alone = outputs_loss_and_gradients(model, [[sample] for sample in samples])
    for a, b in zip(together, alone, strict=True):
        assert a.abs().max() > 0.1
        torch.testing.assert_close(a, b, atol=1e-5 * max(1.0, b.abs().max().item()), rtol=0)
    assert loss == pytest.approx(loss_alone, rel=1e-6)
    for key, grad in grads.items():
        assert grad.abs().max() > 0, key
        scale = max(1.0, grad.abs().max().item())
        torch.testing.assert_close(grad, grads_alone[key], atol=atol * scale, rtol=0, msg=lambda m, k=key: f"{k}: {m}")


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_packed_outputs_loss_and_gradients_equal_one_by_one(
    redrawn: Callable[..., DiT], mixed_samples: list[Sample], conditioning: str, pattern: str, position: str
):
    check_packed_equals_alone(redrawn(**settings_of(pattern, conditioning, position)), mixed_samples)


@pytest.mark.parametrize("settings", VARIANTS + WALTS, ids=name)
def test_variants_packed_equal_one_by_one(redrawn: Callable[..., DiT], mixed_samples: list[Sample], settings: dict):
    check_packed_equals_alone(redrawn(**settings), mixed_samples)


def test_tubelets_packed_equal_one_by_one(redrawn: Callable[..., DiT], samples: list[Sample]):
    """Images and videos of two, three and four frames, in patches of two."""
    settings = settings_of("alternating", "adaln_zero", patch=(2, 2, 2), num_classes=None, conditions=())
    check_packed_equals_alone(redrawn(**settings), samples)


LINEAR = [
    pair
    for pair in itertools.product(LINEAR_MIXERS, CONDITIONINGS)
    if "sliding" not in pair[0] or pair[1] != "in_context"  # which it refuses
]


@pytest.mark.parametrize(("mixer", "conditioning"), LINEAR)
def test_linear_mixers_packed_equal_one_by_one(
    redrawn: Callable[..., DiT], mixed_samples: list[Sample], conditioning: str, mixer: str
):
    check_packed_equals_alone(redrawn(**linear_settings(mixer, conditioning)), mixed_samples, atol=3e-5)


PAIRS = [settings_of(*pair) for pair in itertools.product(PATTERNS, CONDITIONINGS)] + VARIANTS[:4] + WALTS
PAIRS += [linear_settings(*pair) for pair in LINEAR]


@pytest.mark.parametrize("settings", PAIRS, ids=name)
def test_order_of_samples_and_choice_of_pack_change_nothing(
    redrawn: Callable[..., DiT], mixed_samples: list[Sample], settings: dict
):
    model = redrawn(**settings)
    with torch.no_grad():
        reference = output(model, mixed_samples)
        for order in ([2, 0, 3, 1], [3, 1]):
            for i, part in zip(order, output(model, [mixed_samples[i] for i in order]), strict=True):
                torch.testing.assert_close(part, reference[i], atol=1e-5, rtol=0)


@pytest.mark.parametrize("settings", PAIRS, ids=name)
def test_replacing_one_sample_by_noise_changes_exactly_nothing_elsewhere(
    redrawn: Callable[..., DiT], mixed_samples: list[Sample], settings: dict
):
    model = redrawn(**settings)
    with torch.no_grad():
        reference = output(model, mixed_samples)
        for j in (0, 3):
            noisy = replace(
                mixed_samples[j],
                latent=100 * torch.randn_like(mixed_samples[j].latent),
                timestep=1 - mixed_samples[j].timestep,
                fps=60.0,
                label=1,
                scalars={"motion": 50.0, "height": 30.0},
                text=100 * torch.randn_like(mixed_samples[j].text),
            )
            changed = output(model, [*mixed_samples[:j], noisy, *mixed_samples[j + 1 :]])
            differences = [(a - b).abs().max().item() for a, b in zip(changed, reference, strict=True)]
            assert differences.pop(j) > 0.1
            assert differences == [0.0] * (len(mixed_samples) - 1)
