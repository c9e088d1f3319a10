"""Self-attention of the factorised patterns against attention written out with masks (ViViT §3.3)."""

import pytest
import torch

from train.model.build_layout import window_layout
from train.model.heads import normalised_and_rotated
from train.model.mixers.attention import SelfAttention
from train.model.modulation import ModulationParameters
from train.model.position import RotaryEmbedding
from train.packing.patches import grid_positions
from train.packing.segments import Segments
from train.packing.shapes import SPATIAL, TEMPORAL


def test_half_of_the_heads_attend_over_space_and_half_over_time():
    grids = [(3, 2, 2), (1, 2, 3), (2, 1, 4)]
    positions = torch.cat([grid_positions(grid) for grid in grids])
    segments = Segments.of([t * h * w for t, h, w in grids])
    patches = torch.ones(len(positions), dtype=torch.bool)
    groups = [window_layout(window, segments, positions, patches, ~patches) for window in (SPATIAL, TEMPORAL)]
    layer = SelfAttention(width=32, num_heads=4, qk_norm=True)
    x = torch.randn(len(positions), 32)

    q, k, v = layer.project(x, x)
    same_sample = segments.segment_ids[:, None] == segments.segment_ids
    same_frame = same_sample & (positions[:, None, 0] == positions[:, 0])
    same_position = same_sample & (positions[:, None, 1:] == positions[:, 1:]).all(-1)
    heads = []
    for head, sees in enumerate([same_frame, same_frame, same_position, same_position]):
        scores = (q[:, head] @ k[:, head].T / 8**0.5).masked_fill(~sees, -torch.inf)
        heads.append(scores.softmax(-1) @ v[:, head])
    torch.testing.assert_close(layer(x, groups, None), layer.out(torch.cat(heads, dim=1)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_modulate_their_tokens_and_get_the_sums_of_their_gradients(dtype: torch.dtype):
    ids = torch.tensor([2, 0, 2, 2, 1, 0])
    x, change = (torch.randn(6, 5, dtype=dtype, requires_grad=True) for _ in range(2))
    rows = [torch.randn(3, 5, requires_grad=True) for _ in range(3)]
    parameters = ModulationParameters(shift=rows[0], scale=rows[1], gate=rows[2], condition_ids=ids)
    shift, scale, gate = (row[ids] for row in rows)
    pairs = [
        (parameters.modulate(x), x * (1 + scale) + shift),
        (parameters.added(x, change), x + change * gate.to(dtype)),
    ]
    inputs = [x, change, *rows]
    for ours, plain in pairs:
        assert ours.dtype == plain.dtype
        tolerance = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 5e-2, "rtol": 5e-2}
        torch.testing.assert_close(ours, plain, **tolerance)
        upstream = torch.randn_like(ours)
        for one, other in zip(
            *(torch.autograd.grad(out, inputs, upstream, allow_unused=True) for out in (ours, plain)), strict=True
        ):
            assert (one is None) == (other is None)
            if one is not None:
                torch.testing.assert_close(one, other, **tolerance)


@pytest.mark.parametrize("normed", [(12,), (2, 12), None])
@pytest.mark.parametrize("with_rotation", [True, False])
def test_heads_are_normalised_and_rotated_as_by_separate_operations(
    normed: tuple[int, ...] | None, with_rotation: bool
):
    x = torch.randn(7, 2, 12, dtype=torch.float32, requires_grad=True)
    weight = torch.randn(normed, requires_grad=True) if normed else None
    rotation = RotaryEmbedding(12)(torch.randint(0, 9, (7, 3))) if with_rotation else None
    plain = x if weight is None or normed is None else torch.nn.functional.rms_norm(x, normed, weight, 1e-6)
    plain = plain if rotation is None else rotation.apply(plain)
    ours = normalised_and_rotated(x, weight, rotation)
    torch.testing.assert_close(ours, plain, atol=1e-6, rtol=1e-5)
    inputs = [x] if weight is None else [x, weight]
    if ours is x:
        return
    upstream = torch.randn_like(x)
    for one, other in zip(*(torch.autograd.grad(out, inputs, upstream) for out in (ours, plain)), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
