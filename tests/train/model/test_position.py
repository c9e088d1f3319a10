import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from train.model.dit_config import DiTConfig
from train.model.position import (
    FourierEmbedding,
    LearnedEmbedding,
    RotaryEmbedding,
    frame_rates,
    scale_frames,
    sincos_embedding,
)
from train.packing.patches import grid_positions

point = st.tuples(*[st.integers(0, 30)] * 3)


@given(point, point, point)
def test_rotary_scores_depend_on_the_offset_only(query, key, move):
    rope = RotaryEmbedding(16)
    q, k = torch.randn(1, 2, 16).double(), torch.randn(1, 2, 16).double()

    def score(shift):
        at = [torch.tensor([p]) + torch.tensor([shift]) for p in (query, key)]
        return (rope(at[0]).apply(q) * rope(at[1]).apply(k)).sum(-1)

    torch.testing.assert_close(score((0, 0, 0)), score(move), atol=1e-3, rtol=1e-3)


def test_rotary_tells_every_axis_apart():
    rope, q, k = RotaryEmbedding(12), torch.randn(1, 1, 12), torch.randn(1, 1, 12)
    positions = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]])
    scores = (rope(positions).apply(q.expand(5, -1, -1)) * k).sum(-1).flatten()
    assert len(scores.unique()) == 5


def test_sincos_gives_every_place_its_own_row():
    positions = torch.cartesian_prod(*[torch.arange(6)] * 3)
    table = sincos_embedding(positions, 48)
    distances = torch.cdist(table, table) + torch.eye(len(table))
    assert distances.min() > 0.1


def test_seconds_make_frames_of_unlike_rates_comparable():
    positions = torch.tensor([[0, 1, 2], [6, 1, 2], [12, 1, 2], [0, 3, 4]]).float()
    seconds = scale_frames(positions, frame_rates(torch.tensor([12.0, 12.0, 24.0, 0.0]), reference_fps=24.0))
    assert seconds[:, 0].tolist() == [0, 12, 12, 0]
    assert torch.equal(seconds[:, 1:], positions[:, 1:])


def dit_table(width: int, side: int) -> torch.Tensor:
    """The published table (facebookresearch/DiT, models.py), written out: column first, then row."""

    def one_axis(point: int) -> list[float]:
        angles = [point / 10_000 ** (i / (width // 4)) for i in range(width // 4)]
        return [math.sin(a) for a in angles] + [math.cos(a) for a in angles]

    return torch.tensor([one_axis(column) + one_axis(row) for row in range(side) for column in range(side)])


def test_an_image_has_the_table_of_the_published_dit():
    torch.testing.assert_close(sincos_embedding(grid_positions((1, 5, 5)), 24), dit_table(24, 5), atol=1e-6, rtol=0)
    video = sincos_embedding(grid_positions((3, 5, 5)), 24)
    assert torch.equal(video[:25], sincos_embedding(grid_positions((1, 5, 5)), 24))
    assert (video[25:50] - video[:25]).abs().max() > 0.5


@pytest.mark.parametrize("scaling", ["interpolation", "ntk"])
def test_scaled_rotation_leaves_trained_sizes_and_stretches_larger_ones(scaling: str):
    plain, scaled = RotaryEmbedding(24), RotaryEmbedding(24, trained_grid=(2, 4, 4), scaling=scaling)
    positions = torch.tensor([[1.0, 3.0, 2.0], [1.0, 3.0, 7.0]])
    sides = torch.tensor([[2.0, 4.0, 4.0], [2.0, 4.0, 8.0]])
    a, b = plain(positions[:1]), scaled(positions[:1], sides[:1])
    assert torch.equal(a.cos, b.cos) and torch.equal(a.sin, b.sin)
    half = positions / torch.tensor([1, 1, 2])
    cos, at_half, at_full = (r.cos[1, 0, 8:] for r in (scaled(positions, sides), plain(half), plain(positions)))
    torch.testing.assert_close(cos[-1], at_half[-1])  # the slowest frequency of the longer axis
    torch.testing.assert_close(cos[0], (at_half if scaling == "interpolation" else at_full)[0])
    torch.testing.assert_close(scaled(positions, sides).cos[1, 0, :8], plain(positions).cos[1, 0, :8])


@pytest.mark.parametrize("scaling", ["interpolation", "ntk"])
def test_smaller_samples_than_the_trained_ones_are_not_stretched(scaling: str):
    plain, scaled = RotaryEmbedding(24), RotaryEmbedding(24, trained_grid=(4, 8, 8), scaling=scaling)
    positions, sides = torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([[2.0, 4.0, 8.0]])
    assert torch.equal(scaled(positions, sides).cos, plain(positions).cos)


def test_learned_tables_are_read_by_index_or_by_fraction_of_the_side():
    absolute = LearnedEmbedding((3, 5, 9), 8, fractional=False)
    t, h, w = (table.weight for table in absolute.tables)
    point, sides = torch.tensor([[1.0, 2.0, 7.0]]), torch.tensor([[3.0, 4.0, 8.0]])
    torch.testing.assert_close(absolute(point, sides)[0], t[1] + h[2] + w[7])
    between = torch.tensor([[0.5, 2.0, 7.0]])
    torch.testing.assert_close(absolute(between, sides)[0], (t[0] + t[1]) / 2 + h[2] + w[7])
    fractional = LearnedEmbedding((3, 5, 9), 8, fractional=True)
    t, h, w = (table.weight for table in fractional.tables)
    torch.testing.assert_close(fractional(point * 0 + sides / 2, sides)[0], t[1] + h[2] + w[4])
    torch.testing.assert_close(fractional(point, sides), fractional(point * 3, sides * 3))


def test_multiplied_tables_are_the_product_of_the_axes():
    table = LearnedEmbedding((3, 4, 5), 8, fractional=False, product=True)
    found = table(torch.tensor([[2.0, 1.0, 3.0]]), torch.tensor([[3.0, 4.0, 5.0]]))
    rows = [table.tables[axis].weight[index] for axis, index in enumerate((2, 1, 3))]
    torch.testing.assert_close(found[0], (1 + rows[0]) * (1 + rows[1]) * (1 + rows[2]) - 1)


def test_learned_frequencies_turn_with_all_three_coordinates():
    embedding = FourierEmbedding((4, 8, 8), 6)
    embedding.initialize()
    at = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [40, 80, 80]])
    found = embedding(at, at)
    angles = (at / torch.tensor([4.0, 8, 8])) @ embedding.frequencies
    expected = torch.cat([angles.sin(), angles.cos()], 1) @ embedding.out.weight.T + embedding.out.bias
    torch.testing.assert_close(found, expected)
    assert torch.cdist(found, found)[0, 1:].min() > 1e-3


def test_a_product_needs_learned_tables():
    with pytest.raises(ValueError, match="position_product multiplies learned tables, and position is rope"):
        DiTConfig(position_product=True)
