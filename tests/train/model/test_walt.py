"""W.A.L.T: who hears of whom, where the caption comes in, and what an image is."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from tests.support.models import dit_config
from tests.train.model.conftest import CHANNELS, TEXT_DIM, packed
from tests.train.model.test_packed_equals_alone import WALT
from train.model.build_layout import layout_of
from train.model.dit import DiT
from train.packing.batch import Sample
from train.packing.shapes import Window


def heard(model: DiT, samples: list[Sample]) -> torch.Tensor:
    """(L, L) bool: the output of token i depends on the input of token j."""
    batch = packed(model, samples)
    x = batch.tokens.requires_grad_()
    out = model(x, batch.timesteps, batch)
    rows = [torch.autograd.grad(one.sum(), x, retain_graph=True)[0] for one in out]
    return torch.stack(rows).abs().amax(-1) > 0


@pytest.mark.parametrize("depth", [1, 2])
def test_after_two_blocks_every_token_has_reached_every_other_of_its_sample_and_none_else(
    redrawn: Callable[..., DiT], samples: list[Sample], depth: int
):
    model = redrawn(**WALT | {"depth": depth})
    batch = packed(model, samples[:3])  # a video of 3 × 2 × 3 patches, whose parts are four, and images
    same = batch.segments.segment_ids[:, None] == batch.segments.segment_ids
    frames = batch.segments.segment_ids * 10 + batch.positions[:, 0]
    assert torch.equal(heard(model, samples[:3]), same if depth == 2 else frames[:, None] == frames)


def test_an_image_is_what_the_image_network_makes_of_it(redrawn: Callable[..., DiT], samples: list[Sample]):
    """Space-time blocks leave each of its patches to itself, as do windows of one patch a frame."""
    video_model, image_model = redrawn(**WALT), redrawn(**WALT | {"spacetime_window": (None, 1, 1)})
    outputs = []
    for model in (video_model, image_model):
        batch = packed(model, samples)
        with torch.no_grad():
            outputs.append(model(batch.tokens, batch.timesteps, batch).split(batch.segments.lengths))
    same = [torch.equal(one, other) for one, other in zip(*outputs, strict=True)]
    assert not same[0] and [same[i] for i, one in enumerate(samples) if one.latent.shape[1] == 1] == [True] * 3


def test_the_caption_comes_in_by_blocks_within_frames_alone(redrawn: Callable[..., DiT]):
    for pattern, expected in {
        "windows": [True, False, True, False],
        "alternating": [True, False, True, False],
        "factorized_encoder": [True, True, False, False],
    }.items():
        model = redrawn(pattern=pattern, depth=4, cross_attention_in="spatial")
        assert [block.cross_attention is not None for block in model.blocks] == expected
    assert all(block.cross_attention is not None for block in redrawn(pattern="windows", depth=4).blocks)


@pytest.mark.parametrize("pattern", ["windows", "joint"])
def test_joint_keys_are_those_of_the_window_and_of_the_caption(
    redrawn: Callable[..., DiT], mixed_samples: list[Sample], pattern: str
):
    """Against the definition, pair by pair, with in-context tokens, which join every window."""
    changes = {"pattern": pattern, "conditioning": "in_context", "adaln": "block", "cross_attention_in": "all"}
    model = redrawn(**WALT | changes)
    batch, generator = packed(model, mixed_samples), torch.Generator().manual_seed(0)
    layout = layout_of(batch, model.config)
    segments, read = layout.segments, layout.context_segments
    assert read is not None
    x, context = (torch.randn(n, 48, generator=generator) for n in (segments.num_tokens, read.num_tokens))
    for block, ((window,),) in zip(model.blocks, model.windows, strict=True):
        group = layout.groups[window]
        order = torch.arange(segments.num_tokens) if group.order is None else group.order
        groups, owners = group.segments.segment_ids, segments.segment_ids[order]
        same = torch.cat([groups[:, None] == groups, owners[:, None] == read.segment_ids], dim=1)  # (G, G + M')
        q, k, v = block.cross_attention.project(x, torch.cat([x, context]))
        count = segments.num_tokens
        k, v = (torch.cat([y[:count][order], y[count:]]) for y in (k, v))
        q, k, v = (y.transpose(0, 1)[None] for y in (q[order], k, v))
        expected = F.scaled_dot_product_attention(q, k, v, attn_mask=same)[0].transpose(0, 1)
        expected = block.cross_attention.out(group.undo(expected).flatten(1))
        got = block.cross_attention(x, context, segments, read, layout.keys[window])
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"cross_attention_in": "spatial"},
            r"no block of mixer attention, pattern joint stays within frames; .*windows",
        ),
        (
            {"pattern": "windows", "spatial_window": (2, None, None), "cross_attention_in": "spatial"},
            r"pattern windows stays within frames; set mixer\.pattern to windows with a spatial_window of one frame",
        ),
        (
            {"mixer": {"kind": "mamba"}, "position": "sincos", "cross_attention_in": "spatial"},
            "no block of mixer mamba, pattern none stays within frames",
        ),
        (
            {"mixer": {"kind": "mamba"}, "position": "sincos", "cross_attention_over": "joint"},
            r"joint needs attention with one window in each block, got mixer mamba.* set mixer\.pattern to windows",
        ),
        (
            {"pattern": "factorized_dot_product", "cross_attention_over": "joint"},
            "joint needs attention with one window in each block, got mixer attention, pattern factorized_dot_product",
        ),
        ({"text": "in_context", "cross_attention_over": "joint"}, "the model has no cross-attention; set text or"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(settings: dict[str, Any], message: str):
    with pytest.raises(ValidationError, match=message):
        dit_config(**settings)


def test_the_windows_are_those_of_the_paper_by_default():
    """Whole frames, and all frames of a part of them, in turn: here of 16 × 16 patches, as W.A.L.T has."""
    config = dit_config(pattern="windows", depth=4)
    frame, tube = Window(size=(1, None, None)), Window(size=(None, 8, 8), images_alone=True)
    assert [config.windows(block) for block in range(4)] == [((frame,),), ((tube,),)] * 2
    model = DiT(config, channels=CHANNELS, text_dim=TEXT_DIM)
    latent = torch.zeros(CHANNELS, 5, 32, 32)
    one = Sample(clip_id="", latent=latent, noise=latent, timestep=0.5, fps=8.0, text=None)
    groups = layout_of(packed(model, [one]), config).groups
    assert groups[frame].segments.lengths == (256,) * 5
    assert groups[tube].segments.lengths == (5 * 64,) * 4
    assert math.prod((5, 16, 16)) == sum(groups[tube].segments.lengths)
