"""The MLP that convolves: each frame of a pack as torch's convolution has it, and what it cannot be combined with."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from tests.support.models import dit_config
from tests.train.conftest import ragged_samples
from train.model.build_layout import build_layout
from train.model.gated_convolution import depthwise
from train.packing.batch import pack


def test_frames_are_convolved_one_by_one_and_what_was_dropped_is_zero():
    samples = ragged_samples()
    samples[0] = replace(samples[0], kept=torch.tensor([0, 2, 3]))
    batch = pack(samples, (1, 2, 2), 12)
    layout = build_layout(batch, dit_config(width=48, mlp="gated_convolution"))
    weight, bias = torch.randn(5, 9), torch.randn(5)
    x = torch.randn(batch.segments.num_tokens, 5)
    found = depthwise(x, weight, bias, layout.neighbors).split(batch.segments.lengths)
    parts = zip(x.split(batch.segments.lengths), batch.positions.split(batch.segments.lengths), strict=True)
    for out, (tokens, places), (t, h, w) in zip(found, parts, batch.grid_sizes, strict=True):
        frames = torch.zeros(t, h, w, 5)
        frames[places.unbind(1)] = tokens
        convolved = F.conv2d(frames.permute(0, 3, 1, 2), weight.view(5, 1, 3, 3), bias, padding=1, groups=5)
        torch.testing.assert_close(out, convolved.permute(0, 2, 3, 1)[places.unbind(1)], atol=1e-5, rtol=0)


def test_ranks_do_not_share_packs_of_a_model_that_convolves():
    with pytest.raises(ValueError, match=r"parallel\.context is 2, and train\.model\.mlp=gated_convolution reads"):
        dit_config(width=32, num_heads=2, mlp="gated_convolution").check_context(2)
    with pytest.raises(ValueError, match=r"of Linear as model\.mixer it mixes"):
        dit_config(width=32, num_heads=2, position="none", mixer={"kind": "linear_attention"}).check_context(2)
