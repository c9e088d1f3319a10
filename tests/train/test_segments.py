import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from train.model.patterns import spatial, temporal
from train.segments import Sample, Segments, grid_positions, pack, patchify, unpack, unpatchify

sides = st.integers(1, 4)


@given(st.tuples(sides, sides, sides), st.tuples(sides, sides, sides), st.integers(1, 3))
def test_unpatchify_inverts_patchify(grid, patch, channels):
    shape = [n * p for n, p in zip(grid, patch, strict=True)]
    latent = torch.randn(channels, *shape)
    tokens = patchify(latent, patch)
    assert tokens.shape == (grid[0] * grid[1] * grid[2], channels * patch[0] * patch[1] * patch[2])
    assert torch.equal(unpatchify(tokens, grid, patch), latent)


def test_a_linear_layer_on_patches_is_the_strided_convolution_with_the_same_weights():
    patch = (2, 2, 3)
    conv = torch.nn.Conv3d(4, 7, patch, stride=patch)
    latent = torch.randn(4, 4, 6, 6)
    by_convolution = conv(latent[None])[0].flatten(1).T  # tokens run t, h, w
    by_linear = torch.nn.functional.linear(patchify(latent, patch), conv.weight.flatten(1), conv.bias)
    torch.testing.assert_close(by_linear, by_convolution, atol=1e-5, rtol=0)


def test_positions_name_the_patch_that_a_token_was_cut_from():
    grid = (2, 3, 4)
    latent = torch.zeros(3, *grid)
    latent[0], latent[1], latent[2] = torch.meshgrid(*(torch.arange(n) for n in grid), indexing="ij")
    assert torch.equal(patchify(latent, (1, 1, 1)).long(), grid_positions(grid))


def test_a_latent_that_the_patch_does_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"\(1, 5, 4\).*\(1, 2, 2\)"):
        patchify(torch.zeros(3, 1, 5, 4), (1, 2, 2))


def test_unpack_gives_every_sample_back(samples: list[Sample]):
    batch = pack(samples, (1, 2, 2), 12)
    for sample, latent in zip(samples, unpack(batch.tokens, batch, (1, 2, 2)), strict=True):
        assert torch.equal(latent, sample.latent)


def dropped(sample: Sample, rate: float) -> Sample:
    count = math.prod(sample.latent.shape[1:]) // 4
    kept = torch.randperm(count)[: max(1, round(count * (1 - rate)))].sort().values
    return replace(sample, kept=kept)


def test_dropped_tokens_are_gone_and_the_kept_ones_know_where_they_were(samples: list[Sample]):
    thinned = [dropped(sample, 0.5) for sample in samples]
    batch, whole = pack(thinned, (1, 2, 2), 12), pack(samples, (1, 2, 2), 12)
    assert batch.segments.lengths == tuple(len(sample.kept) for sample in thinned)
    assert batch.grid_sizes == whole.grid_sizes
    rows = torch.cat([sample.kept + start for sample, start in zip(thinned, whole.segments.cu_seqlens, strict=False)])
    for name in ("tokens", "noise", "positions"):
        assert torch.equal(getattr(batch, name), getattr(whole, name)[rows])
    for sample, latent in zip(thinned, unpack(batch.tokens, batch, (1, 2, 2)), strict=True):
        back, there = patchify(latent, (1, 2, 2)), patchify(sample.latent, (1, 2, 2))
        assert torch.equal(back[sample.kept], there[sample.kept])
        assert back.count_nonzero() == there[sample.kept].count_nonzero()


def test_given_tokens_have_a_row_at_time_zero_and_no_loss(samples: list[Sample]):
    assert torch.equal(pack(samples, (1, 2, 2), 12).row_ids, pack(samples, (1, 2, 2), 12).segments.segment_ids)
    first_frame = [torch.zeros(math.prod(s.latent.shape[1:]) // 4, dtype=torch.bool) for s in samples]
    first_frame[0][:6], first_frame[3][:3], first_frame[4][0] = True, True, True
    mixed = [
        replace(sample, given=None if i == 4 else given)
        for i, (sample, given) in enumerate(zip(samples, first_frame, strict=True))
    ]
    mixed[4] = dropped(replace(samples[4], given=first_frame[4]), 0.5)
    batch = pack(mixed, (1, 2, 2), 12)
    times = batch.row_timesteps[batch.row_ids]
    assert torch.equal(batch.row_segments[batch.row_ids], batch.segments.segment_ids)
    assert torch.equal(times == 0, ~batch.loss_mask)
    assert torch.equal(times[batch.loss_mask], batch.segments.gather(batch.timesteps)[batch.loss_mask])
    assert [int((~m).sum()) for m in batch.loss_mask.split(batch.segments.lengths)][:4] == [6, 0, 0, 3]
    assert torch.equal(batch.row_segments[: len(samples)], torch.arange(len(samples)))


def test_absent_conditions_are_nan_and_absent_labels_minus_one(samples: list[Sample]):
    samples = [replace(samples[0], label=3, extras={"motion": 0.5, "unused": 1.0}), *samples[1:]]
    batch = pack(samples, (1, 2, 2), 12, ["aesthetic", "motion"])
    assert batch.labels.tolist() == [3, -1, -1, -1, -1, -1]
    assert batch.extras[0, 1] == 0.5 and batch.extras.isnan().sum() == 11
    assert pack(samples, (1, 2, 2), 12).extras.shape == (6, 0)


@pytest.mark.parametrize("lengths", [[], [3, 0, 2]])
def test_empty_segments_are_refused(lengths: list[int]):
    with pytest.raises(ValueError, match="at least one segment"):
        Segments.of(lengths)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_segment_sums_are_sums_of_slices(lengths):
    segments, tokens = Segments.of(lengths), torch.randn(sum(lengths), 3)
    parts = tokens.split(lengths)
    torch.testing.assert_close(segments.sum(tokens), torch.stack([part.sum(0) for part in parts]))
    torch.testing.assert_close(segments.mean(tokens), torch.stack([part.mean(0) for part in parts]))
    assert segments.cu_seqlens.tolist() == [sum(lengths[:i]) for i in range(len(lengths) + 1)]
    rows = torch.randn(len(lengths), 2)
    assert all(
        torch.equal(a, rows[i].expand(n, -1))
        for i, (a, n) in enumerate(zip(segments.gather(rows).split(lengths), lengths, strict=True))
    )


grids = st.lists(st.tuples(sides, sides, sides), min_size=1, max_size=4)


@given(grids)
def test_temporal_groups_hold_one_place_over_all_frames_and_spatial_groups_one_frame(grid_sizes):
    sample = torch.cat([torch.full((t * h * w,), i) for i, (t, h, w) in enumerate(grid_sizes)])
    tokens = torch.cat([sample[:, None], torch.cat([grid_positions(grid) for grid in grid_sizes])], dim=1)
    for group, constant, running, lengths in (
        (spatial(tuple(grid_sizes)), [0, 1], [2, 3], [h * w for t, h, w in grid_sizes for _ in range(t)]),
        (temporal(tuple(grid_sizes)), [0, 2, 3], [1], [t for t, h, w in grid_sizes for _ in range(h * w)]),
    ):
        assert torch.equal(group.undo(group.apply(tokens)), tokens)
        assert list(group.segments.lengths) == lengths
        for part in group.apply(tokens).split(group.segments.lengths):
            assert (part[:, constant] == part[0, constant]).all()
            assert len(part[:, running].unique(dim=0)) == len(part)
