"""The baselines of benchmarks/train_step.py compute what they say: the same samples, and the same function."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.batching import CHANNELS, TEXT_DIM, bucketed, packed, padded, plain_forward
from tests.support.timing import median_seconds
from train.model.dit import DiT
from train.model.dit_config import DiTConfig
from train.packing.shapes import WHOLE

CPU = torch.device("cpu")
CONFIG = DiTConfig(width=32, depth=2, num_heads=2)
GRIDS = np.array([(1, 2, 3), (3, 2, 3), (1, 2, 3), (2, 3, 2), (1, 4, 4), (3, 2, 3), (4, 2, 2)])
BUDGET = 40


@pytest.mark.parametrize("way", [packed, padded, bucketed])
def test_every_way_meets_every_sample_once_within_the_budget(way):
    batches = list(way(GRIDS, BUDGET, CONFIG, CPU))
    clips = sorted(clip for batch in batches for clip in batch.packed.clip_ids)
    assert clips == [str(number) for number in range(len(GRIDS))]
    assert sum(batch.real_tokens for batch in batches) == GRIDS.prod(1).sum()
    assert all(batch.real_tokens <= batch.packed.segments.num_tokens <= BUDGET for batch in batches)


def test_padded_batches_are_as_long_as_their_longest_and_attention_may_stop_before():
    for batch, stopped in zip(
        padded(GRIDS, BUDGET, CONFIG, CPU), padded(GRIDS, BUDGET, CONFIG, CPU, unpads_attention=True), strict=True
    ):
        lengths = GRIDS[[int(clip) for clip in batch.packed.clip_ids]].prod(1)
        assert set(batch.packed.segments.lengths) == {lengths.max()}
        groups = stopped.packed.layout.groups[WHOLE].segments.lengths
        assert sum(groups) == batch.packed.segments.num_tokens
        assert sorted(set(groups) & set(lengths)) == sorted(set(lengths))


def test_buckets_hold_one_shape():
    assert all(len(set(batch.packed.grid_sizes)) == 1 for batch in bucketed(GRIDS, BUDGET, CONFIG, CPU))


def test_the_model_without_segments_is_the_same_function_with_the_same_gradients():
    torch.manual_seed(0)
    model = DiT(CONFIG, channels=CHANNELS, text_dim=TEXT_DIM)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    (prepared,) = packed(np.tile((2, 3, 2), (3, 1)), 3 * 12, CONFIG, CPU)
    batch = prepared.packed
    outputs, gradients = [], []
    for forward in (
        lambda: model(batch.noise, batch.timesteps, batch),
        lambda: plain_forward(model, batch.noise.unflatten(0, (3, -1)), batch).flatten(0, 1),
    ):
        outputs.append(forward())
        outputs[-1].square().mean().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
        model.zero_grad(set_to_none=True)
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-5)
    for ours, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, plain, atol=1e-5 * float(plain.abs().max() + 1), rtol=1e-4)


def test_compared_ways_run_in_turn():
    calls: list[str] = []
    seconds = median_seconds({name: lambda name=name: calls.append(name) for name in "ab"}, CPU, 2)
    assert "".join(calls) == "ababab"
    assert seconds.keys() == {"a", "b"}
