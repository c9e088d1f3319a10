"""Who sees whom, against the definition written out pair by pair."""

from typing import get_args

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.support.models import dit_config
from train.model.build_layout import reaches_all, window_layout
from train.model.dit_config import DiTConfig
from train.model.mixers.attention_config import Pattern
from train.packing.patches import grid_positions
from train.packing.segments import Segments
from train.packing.shapes import SPATIAL, TEMPORAL, WHOLE, Window

side = st.integers(1, 5)
grids = st.lists(st.tuples(side, side, side), min_size=1, max_size=3)
size = st.none() | st.integers(1, 4)
windows = st.builds(Window, size=st.tuples(size, size, size), shifted=st.booleans(), images_alone=st.booleans())


def sequence(grid_sizes, num_context, drop):
    """Segments, positions, is_patch, is_image of samples with in-context tokens, `drop` of their patches left out."""
    generator = torch.Generator().manual_seed(0)
    lengths, positions, is_patch, is_image = [], [], [], []
    for grid in grid_sizes:
        kept = grid_positions(grid)
        kept = kept[torch.rand(len(kept), generator=generator) >= drop] if drop else kept
        kept = kept if len(kept) else grid_positions(grid)[:1]
        lengths.append(num_context + len(kept))
        positions += [torch.zeros(num_context, 3, dtype=torch.int64), kept]
        is_patch += [torch.tensor([False] * num_context + [True] * len(kept))]
        is_image += [torch.full((lengths[-1],), grid[0] == 1)]
    return Segments.of(lengths), torch.cat(positions), torch.cat(is_patch), torch.cat(is_image)


def meets(window, segments, positions, is_patch, is_image):
    """(N, N): whether i and j share a box, or one of them is in context and so in every box of its sample."""
    same_sample = segments.segment_ids[:, None] == segments.segment_ids
    same_box, boxes = same_sample.clone(), positions.clone()
    for axis, n in enumerate(window.size):
        if n is not None:
            boxes[:, axis] = (positions[:, axis] + (n // 2 if window.shifted else 0)) // n
            same_box &= boxes[:, axis, None] == boxes[:, axis]
    both_patches = is_patch[:, None] & is_patch
    alone = is_image[:, None] & window.images_alone
    crossing = is_patch[:, None] != is_patch
    sees = torch.where(both_patches, same_box, same_sample)
    sees &= ~(alone & both_patches) | torch.eye(len(is_patch), dtype=torch.bool)
    return sees & ~(alone & crossing)


@settings(max_examples=60, deadline=None)
@given(windows, grids, st.sampled_from([0, 2]), st.sampled_from([0.0, 0.5]))
def test_tokens_meet_in_a_group_exactly_when_the_window_says_so(window, grid_sizes, num_context, drop):
    segments, positions, is_patch, is_image = sequence(grid_sizes, num_context, drop)
    group = window_layout(window, segments, positions, is_patch, is_image)
    order = torch.arange(segments.num_tokens) if group.order is None else group.order
    member = torch.zeros(group.segments.num_segments, segments.num_tokens).index_put_(
        (group.segments.segment_ids, order), torch.tensor(1.0)
    )
    assert torch.equal((member.T @ member).bool(), meets(window, segments, positions, is_patch, is_image))
    assert (member[:, is_patch].sum(0) == 1).all()  # a patch is in one group
    assert sorted(group.segments.lengths) == list(group.segments.lengths) or group.order is None
    tokens = torch.randn(segments.num_tokens, 2, 3)
    torch.testing.assert_close(group.undo(group.apply(tokens)), tokens)


def test_repeated_tokens_get_the_mean_of_their_copies():
    segments, positions, is_patch, is_image = sequence([(3, 1, 2)], 1, 0)
    group = window_layout(SPATIAL, segments, positions, is_patch, is_image)
    assert group.order.tolist() == [0, 1, 2, 0, 3, 4, 0, 5, 6]
    copies = torch.tensor([1.0, 0, 0, 2, 0, 0, 6, 0, 0])[:, None]
    assert group.undo(copies).flatten().tolist() == [3, 0, 0, 0, 0, 0, 0]


def test_equal_groups_are_neighbours():
    segments, positions, is_patch, is_image = sequence([(4, 2, 2), (1, 3, 3), (4, 1, 3)], 0, 0)
    assert window_layout(TEMPORAL, segments, positions, is_patch, is_image).segments.lengths == (1,) * 9 + (4,) * 7


@pytest.mark.parametrize(
    "pattern, expected",
    [
        ("joint", [((WHOLE,),)] * 4),
        ("alternating", [((SPATIAL,),), ((TEMPORAL,),)] * 2),
        ("factorized_encoder", [((SPATIAL,),)] * 2 + [((TEMPORAL,),)] * 2),
        ("factorized_self_attention", [((SPATIAL,), (TEMPORAL,))] * 4),
        ("factorized_dot_product", [((SPATIAL, TEMPORAL),)] * 4),
    ],
)
def test_patterns_are_those_of_the_papers(pattern, expected):
    config = dit_config(depth=4, pattern=pattern)
    assert [config.windows(i) for i in range(4)] == expected


def test_windows_alternate_and_every_second_pair_is_shifted():
    windows = {"spatial_window": (1, 4, 4), "spacetime_window": (5, 2, 2)}
    config = dit_config(depth=4, pattern="windows", shift_windows=True, **windows)
    blocks = [config.windows(i) for i in range(4)]
    assert [(w.size, w.shifted, w.images_alone) for ((w,),) in blocks] == [
        ((1, 4, 4), False, False),
        ((5, 2, 2), False, True),
        ((1, 4, 4), True, False),
        ((5, 2, 2), True, True),
    ]


def reached(config: DiTConfig, grid: tuple[int, int, int]) -> torch.Tensor:
    """(n, n) bool: from which patch of a sample to which something gets, block by block, by the groups themselves."""
    segments, positions, is_patch, is_image = sequence([grid], 0, 0)
    reach = torch.eye(len(positions))
    for block in range(config.depth):
        for heads in config.windows(block):
            seen = torch.eye(len(positions))
            for window in heads:
                group = window_layout(window, segments, positions, is_patch, is_image)
                order = torch.arange(len(positions)) if group.order is None else group.order
                ids = torch.empty(len(positions), dtype=torch.int64).index_copy(0, order, group.segments.segment_ids)
                seen = (seen + (ids[:, None] == ids).float()).clamp(max=1)
            reach = (reach @ seen).clamp(max=1)
    return reach.bool()


@pytest.mark.parametrize("pattern", get_args(Pattern))
def test_by_default_every_patch_reaches_every_other(pattern: Pattern):
    """Of a sample that is longer and larger than any window, and of an image."""
    for grid in ((7, 18, 10), (1, 18, 10)):
        config = dit_config(pattern=pattern, depth=2)
        assert reaches_all(config, grid) and reached(config, grid).all()


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(size, size, size),
    st.tuples(size, size, size),
    st.booleans(),
    st.integers(1, 6),
    st.tuples(side, side, side),
    st.sampled_from([p for p in get_args(Pattern) if p != "factorized_dot_product"]),
)
def test_islands_are_what_the_groups_leave_apart(spatial, spacetime, shifted, depth, grid, pattern):
    assume(depth > 1 or pattern != "factorized_encoder")
    windows = {"spatial_window": spatial, "spacetime_window": spacetime, "shift_windows": shifted}
    config = dit_config(pattern=pattern, depth=depth, **windows)
    assert reaches_all(config, grid) == reached(config, grid).all()
