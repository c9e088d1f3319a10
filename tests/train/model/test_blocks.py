"""Self-attention of the factorised patterns against attention written out with masks (ViViT §3.3)."""

import pytest
import torch

from train.model.blocks import SelfAttention
from train.model.config import DiTConfig
from train.model.modulation import gather_rows
from train.model.patterns import SPATIAL, TEMPORAL, regroup
from train.patches import grid_positions
from train.segments import Segments


def test_half_of_the_heads_attend_over_space_and_half_over_time():
    grids = [(3, 2, 2), (1, 2, 3), (2, 1, 4)]
    places = torch.cat([grid_positions(grid) for grid in grids])
    segments = Segments.of([t * h * w for t, h, w in grids])
    patches = torch.ones(len(places), dtype=torch.bool)
    groups = [regroup(window, segments, places, patches, ~patches) for window in (SPATIAL, TEMPORAL)]
    layer = SelfAttention(DiTConfig(width=32, num_heads=4))
    x = torch.randn(len(places), 32)

    q, k, v = layer.project(x, x)
    same_sample = segments.segment_ids[:, None] == segments.segment_ids
    same_frame = same_sample & (places[:, None, 0] == places[:, 0])
    same_place = same_sample & (places[:, None, 1:] == places[:, 1:]).all(-1)
    heads = []
    for head, sees in enumerate([same_frame, same_frame, same_place, same_place]):
        scores = (q[:, head] @ k[:, head].T / 8**0.5).masked_fill(~sees, -torch.inf)
        heads.append(scores.softmax(-1) @ v[:, head])
    torch.testing.assert_close(layer(x, groups, None), layer.out(torch.cat(heads, dim=1)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_are_gathered_and_their_gradients_summed(dtype: torch.dtype):
    rows, ids = torch.randn(3, 5, dtype=dtype, requires_grad=True), torch.tensor([2, 0, 2, 2, 1, 0])
    upstream = torch.randn(6, 5, dtype=dtype)
    out = gather_rows(rows, ids)
    (grad,) = torch.autograd.grad(out, rows, upstream)
    assert torch.equal(out, rows[ids])
    torch.testing.assert_close(grad, torch.autograd.grad(rows.float()[ids], rows, upstream.float())[0])
