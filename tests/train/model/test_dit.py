import re
from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import pytest
import torch
from pydantic import ValidationError

from tests.support.models import dit_config
from tests.train.model.conftest import CHANNELS, TEXT_DIM, output, packed
from train.model.build_layout import prepare
from train.model.dit import DiT
from train.model.dit_config import DiTConfig
from train.model.mixers.attention_config import Pattern
from train.packing.batch import Sample

PATTERNS = get_args(Pattern)


def test_every_condition_reaches_the_output_of_its_own_sample(redrawn: Callable[..., DiT], samples: list[Sample]):
    sample = replace(samples[0], label=1, scalars={"motion": 0.2, "width": 640.0})
    for conditioning in ("in_context", "cross_attention", "adaln", "adaln_zero"):
        model = redrawn(conditioning=conditioning, num_classes=2, conditions=("width", "motion"))
        reference = output(model, [sample])[0]
        for change in (
            {"timestep": 0.9},
            {"fps": 30.0},
            {"text": None},
            {"text": sample.text.flip(1)},
            {"label": 0},
            {"label": None},
            {"scalars": {"motion": 0.2}},
            {"scalars": {"motion": 0.21, "width": 640.0}},
            {"clean_mask": torch.arange(18) < 6},
        ):
            assert (output(model, [replace(sample, **change)])[0] - reference).abs().max() > 1e-4, change


def test_a_condition_that_the_pack_does_not_carry_is_named(redrawn: Callable[..., DiT], samples: list[Sample]):
    batch = packed(redrawn(conditions=("width",)), samples)
    with pytest.raises(ValueError, match=r"conditioned on motion, the pack carries .*width"):
        redrawn(conditions=("motion",))(batch.tokens, batch.timesteps, batch)


def test_half_precision_autocast_stays_close_to_float32(redrawn: Callable[..., DiT], samples: list[Sample]):
    model = redrawn()
    reference = torch.cat(output(model, samples))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = torch.cat(output(model, samples))
    assert half.dtype == torch.bfloat16
    assert torch.nn.functional.cosine_similarity(half.float().flatten(), reference.flatten(), dim=0) > 0.999


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("backend", ["varlen", "flex"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_kernels_on_a_gpu_compute_what_the_cpu_does(
    redrawn: Callable[..., DiT], samples: list[Sample], pattern: str, backend: str
):
    model = redrawn(pattern=pattern, kernel=backend, width=128)
    batch = prepare(packed(model, samples), model.config)
    reference = redrawn(pattern=pattern, width=128)(batch.tokens, batch.timesteps, batch)
    model, batch = model.to("cuda"), batch.to("cuda")
    with torch.autocast("cuda", dtype=torch.bfloat16):
        half = model(batch.tokens, batch.timesteps, batch)
    assert torch.nn.functional.cosine_similarity(half.float().cpu().flatten(), reference.flatten(), dim=0) > 0.999


@pytest.mark.parametrize("adaln", ["block", "lora", "shared"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_blocks_are_the_identity_and_the_output_zero_at_initialization(
    samples: list[Sample], pattern: str, adaln: str
):
    config = dit_config(width=24, depth=3, num_heads=4, pattern=pattern, adaln=adaln, adaln_rank=2)
    model = DiT(config, channels=CHANNELS, text_dim=TEXT_DIM)
    batch = packed(model, samples)
    seen = []
    for block in model.blocks:
        block.register_forward_hook(lambda _, inputs, out: seen.append(torch.equal(inputs[0], out)))
    assert model(batch.tokens, batch.timesteps, batch).abs().max() == 0
    assert seen == [True] * 3


@pytest.mark.parametrize("pattern", ["joint", "factorized_self_attention"])
def test_query_key_and_value_are_drawn_as_one_matrix_of_dit(pattern: str):
    """Xavier's bound of a (3 D, D) matrix is √(6 / 4 D): apart, a query would be √2 times as large."""
    width = 192
    model = DiT(dit_config(width=width, depth=1, num_heads=4, pattern=pattern), channels=4, text_dim=12)
    for attention in model.blocks[0].self_attentions:
        layers = [parameter for name, parameter in attention.named_parameters() if re.match(r"to_\w+\.weight", name)]
        for weight in torch.cat(layers).detach().split(width):
            assert weight.abs().max().item() == pytest.approx((6 / (4 * width)) ** 0.5, rel=0.01)
            assert weight.std().item() == pytest.approx((2 / (4 * width)) ** 0.5, rel=0.02)


def test_a_layout_worked_out_ahead_changes_nothing(redrawn: Callable[..., DiT], mixed_samples: list[Sample]):
    for settings in ({"pattern": "windows", "depth": 4}, {"conditioning": "in_context", "text": "in_context"}):
        model = redrawn(**settings)
        batch = packed(model, mixed_samples)
        ahead = prepare(batch, model.config)
        assert torch.equal(model(batch.tokens, batch.timesteps, ahead), model(batch.tokens, batch.timesteps, batch))


def test_features_of_a_block_come_beside_the_output(redrawn: Callable[..., DiT], samples: list[Sample]):
    model = redrawn(conditioning="in_context")
    batch = packed(model, samples)
    seen = []
    model.blocks[0].register_forward_hook(lambda _, inputs, out: seen.append(out))
    out, features = model(batch.tokens, batch.timesteps, batch, features_of=0)
    assert torch.equal(out, model(batch.tokens, batch.timesteps, batch))
    num_condition_tokens = model.config.num_condition_tokens
    first = seen[0][num_condition_tokens : num_condition_tokens + batch.segments.lengths[0]]
    assert torch.equal(features[: len(first)], first) and features.shape == (len(batch.tokens), 48)


def test_images_pass_the_space_time_windows_by_identity(redrawn: Callable[..., DiT], samples: list[Sample]):
    """With spatial windows of one patch, patches of an image never meet; those of a video do."""
    model = redrawn(pattern="windows", spatial_window=(1, 1, 1), spacetime_window=(4, 4, 4))
    for sample, reach in ((samples[1], 1), (samples[0], 18)):
        changed = replace(sample, latent=sample.latent.clone())
        changed.latent[:, 0, :2, :2] += 1.0
        difference = output(model, [changed])[0] - output(model, [sample])[0]
        assert int(difference.abs().amax(1).count_nonzero()) == reach


def test_copies_of_a_lone_frame_have_one_answer(redrawn: Callable[..., DiT], samples: list[Sample]):
    model = redrawn(patch=(2, 2, 2), num_outputs=2)
    for sample, alone in ((samples[1], True), (samples[0], True), (samples[3], False)):
        first = output(model, [sample])[0][: sample.latent[0, 0].numel() // 4].unflatten(1, (-1, 2, 4))
        assert torch.equal(first[:, :, 0], first[:, :, 1]) is alone


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"width": 36, "num_heads": 5}, "width 36 and num_heads 5"),
        ({"width": 27, "num_heads": 3}, "head width 9 .*expected an even number"),
        ({"pattern": "factorized_dot_product", "num_heads": 3}, "even number of heads, got num_heads 3"),
        ({"pattern": "factorized_encoder", "depth": 1}, "at least two blocks"),
        ({"conditioning": "in_context", "adaln": "lora"}, "adaln lora needs conditioning adaln"),
        ({"conditions": ("motion", "motion")}, "each name once"),
        ({"patch": (0, 2, 2)}, "expected sides above 0"),
        ({"spatial_window": (1, None, 0)}, "expected sides above 0"),
    ],
)
def test_shapes_that_cannot_be_built_are_refused(settings: dict, message: str):
    with pytest.raises(ValidationError, match=message):
        dit_config(**settings)


def test_a_sample_beyond_the_learned_positions_is_named(redrawn: Callable[..., DiT], samples: list[Sample]):
    model = redrawn(position="absolute", max_grid=(2, 8, 8))
    with pytest.raises(ValueError, match=r"clip clip-0: got a grid of \(3, 2, 3\) patches"):
        output(model, samples)


@pytest.mark.parametrize("position", ["rope", "sincos", "absolute"])
def test_a_model_can_be_built_without_memory(position: str):
    config = DiTConfig(width=32, depth=2, num_heads=2, position=position, rope_grid=(4, 4, 4))
    with torch.device("meta"):
        model = DiT(config, channels=4, text_dim=12)
    assert all(parameter.is_meta for parameter in model.parameters())
