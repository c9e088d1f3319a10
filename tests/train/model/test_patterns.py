"""Who sees whom, against the definition written out pair by pair."""

from typing import get_args

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.support.models import dit_config
from tests.train.model.conftest import output
from train.model.build_layout import reaches_all, window_layout
from train.model.dit_config import DiTConfig
from train.model.mixers.attention_config import Pattern
from train.packing.batch import pack
from train.packing.patches import grid_positions
from train.packing.segments import KeyLayout, Segments, WindowLayout
from train.packing.shapes import SPARSE_CAUSAL, SPATIAL, TEMPORAL, WHOLE, Window

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
        ("sparse_causal", [((SPARSE_CAUSAL,), (TEMPORAL,))] * 4),
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


def reads(group: WindowLayout, num_tokens: int) -> torch.Tensor:
    """(N, N): how often token i has token j among its keys."""
    order = torch.arange(num_tokens) if group.order is None else group.order
    keys = KeyLayout(segments=group.segments, order=order) if group.keys is None else group.keys
    one, seen = torch.tensor(1.0), torch.zeros(group.segments.num_segments, num_tokens)
    members = seen.index_put((group.segments.segment_ids, order), one, accumulate=True)
    return members.T @ seen.index_put((keys.segments.segment_ids, keys.order), one, accumulate=True)


@settings(max_examples=60, deadline=None)
@given(grids, st.sampled_from([0, 2]), st.sampled_from([0.0, 0.5, 0.8]))
def test_frames_read_the_first_and_the_one_before(grid_sizes, num_context, drop):
    """Of those that have tokens; in-context tokens are in every group, as queries and as keys."""
    segments, positions, is_patch, is_image = sequence(grid_sizes, num_context, drop)
    found = reads(window_layout(SPARSE_CAUSAL, segments, positions, is_patch, is_image), segments.num_tokens)
    for i, segment in enumerate(segments.segment_ids.tolist()):
        own = segments.segment_ids == segment
        there = positions[own & is_patch, 0].unique().tolist()
        frames = there if not is_patch[i] else [int(positions[i, 0])]
        expected = torch.zeros(segments.num_tokens)
        for frame in frames:
            read = {there[0], there[max(0, there.index(frame) - 1)]}
            expected += own & (~is_patch | torch.tensor([p in read for p in positions[:, 0].tolist()]))
        assert torch.equal(found[i], expected)


def test_a_frame_is_told_by_the_first_and_the_one_before_alone(redrawn, samples):
    """By gradients of one block's first mixer, on two samples in a pack."""
    model = redrawn(pattern="sparse_causal", text="none", position="sincos")
    batch = pack([samples[0], samples[0]], model.config.patch, 12)  # 3 frames of 6 patches each
    everywhere = torch.ones(36, dtype=torch.bool)
    layout = window_layout(SPARSE_CAUSAL, batch.segments, batch.positions, everywhere, ~everywhere)
    x = torch.randn(36, 48, requires_grad=True)
    out = model.blocks[0].self_attentions[0](x, [layout], None).unflatten(0, (2, 3, 6))
    for frame, told_by in enumerate([{0}, {0}, {0, 1}]):
        # Its own tokens are queries alone.
        (grad,) = torch.autograd.grad(out[1, frame].square().sum(), x, retain_graph=True)
        felt = grad.unflatten(0, (2, 3, 6)).abs().amax((2, 3))
        assert felt[0].tolist() == [0.0] * 3
        assert {i for i, size in enumerate(felt[1].tolist()) if size != 0.0} == told_by | {frame}
        (grad,) = torch.autograd.grad(out[1, frame, 0].square().sum(), x, retain_graph=True)
        of_others = grad.unflatten(0, (2, 3, 6))[1, frame, 1:].abs().max().item()
        assert (of_others != 0.0) == (frame in told_by)


def test_of_an_image_sparse_causal_attention_is_spatial_attention(redrawn, samples):
    """With the same weights, as those of another pattern are taken over."""
    models = [redrawn(pattern=pattern) for pattern in ("sparse_causal", "factorized_self_attention")]
    models[0].load_state_dict(models[1].state_dict())
    image, video = samples[2], samples[0]
    (one,), (other,) = (output(model, [image]) for model in models)
    assert torch.equal(one, other)
    (one,), (other,) = (output(model, [video]) for model in models)
    assert not torch.isclose(one, other).all()


def reached(config: DiTConfig, grid: tuple[int, int, int]) -> torch.Tensor:
    """(n, n) bool: from which patch of a sample to which something gets, block by block, by the groups themselves."""
    segments, positions, is_patch, is_image = sequence([grid], 0, 0)
    reach = torch.eye(len(positions))
    for block in range(config.depth):
        for heads in config.windows(block):
            seen = torch.eye(len(positions))
            for window in heads:
                group = window_layout(window, segments, positions, is_patch, is_image)
                seen = (seen + reads(group, len(positions)).T).clamp(max=1)
            reach = (reach @ seen).clamp(max=1)
    return reach.bool()


@pytest.mark.parametrize("pattern", [one for one in get_args(Pattern) if one != "spatial"])
def test_by_default_every_patch_reaches_every_other(pattern: Pattern):
    """Of a sample that is longer and larger than any window, and of an image; `spatial` says that it does not."""
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
    assume(depth > 1 or pattern not in ("factorized_encoder", "sparse_causal"))
    windows = {"spatial_window": spatial, "spacetime_window": spacetime, "shift_windows": shifted}
    config = dit_config(pattern=pattern, depth=depth, **windows)
    assert reaches_all(config, grid) == reached(config, grid).all()
