import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support.models import dit_config
from train.model.build_layout import prepare
from train.objective.config import FlowConfig
from train.packing.batch import Sample, pack, renoised, unpack
from train.packing.patches import draw_noise, grid_size, patchify, unpatchify
from train.packing.segments import Segments, WindowLayout, map_tensors


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
    assert torch.equal(pack(samples, (1, 2, 2), 12).condition_ids, pack(samples, (1, 2, 2), 12).segments.segment_ids)
    first_frame = [torch.zeros(math.prod(s.latent.shape[1:]) // 4, dtype=torch.bool) for s in samples]
    first_frame[0][:6], first_frame[3][:3], first_frame[4][0] = True, True, True
    mixed = [
        replace(sample, clean_mask=None if i == 4 else given)
        for i, (sample, given) in enumerate(zip(samples, first_frame, strict=True))
    ]
    mixed[4] = dropped(replace(samples[4], clean_mask=first_frame[4]), 0.5)
    batch = pack(mixed, (1, 2, 2), 12)
    times = batch.condition_timesteps[batch.condition_ids]
    assert torch.equal(batch.condition_segments[batch.condition_ids], batch.segments.segment_ids)
    assert torch.equal(times == 0, ~batch.loss_mask)
    assert torch.equal(times[batch.loss_mask], batch.segments.gather(batch.timesteps)[batch.loss_mask])
    assert [int((~m).sum()) for m in batch.loss_mask.split(batch.segments.lengths)][:4] == [6, 0, 0, 3]
    assert torch.equal(batch.condition_segments[: len(samples)], torch.arange(len(samples)))


@pytest.mark.parametrize("order", [[3, 0, 2, 1], [3, 0, 2, 0, 1]], ids=["permuted", "token 0 is in two groups"])
def test_gradients_go_back_through_a_regrouping(order: list[int]):
    group = WindowLayout.of(torch.tensor(order), [2, len(order) - 2])
    tokens = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    regrouped = torch.randn(len(order), 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(group.apply, tokens)
    assert torch.autograd.gradcheck(lambda x: group.undo(x).double(), regrouped, atol=1e-3, eps=1e-3)
    torch.testing.assert_close(group.undo(group.apply(tokens)), tokens, check_dtype=False)


def test_a_permutation_adds_nothing_in_its_backward():
    """Adding rows to zeros costs a second pass, and atomics on a GPU."""
    group, tokens = WindowLayout.of(torch.tensor([3, 0, 2, 1]), [2, 2]), torch.randn(4, 3, requires_grad=True)
    loss = group.undo(group.apply(tokens).square()).sum()
    with torch.profiler.profile() as profile:
        loss.backward()
    assert not any("index_add" in event.key for event in profile.key_averages())


def test_absent_conditions_are_nan_and_absent_labels_minus_one(samples: list[Sample]):
    samples = [replace(samples[0], label=3, scalars={"motion": 0.5, "unused": 1.0}), *samples[1:]]
    batch = pack(samples, (1, 2, 2), 12, ["aesthetic", "motion"])
    assert batch.labels.tolist() == [3, -1, -1, -1, -1, -1]
    assert batch.scalars[0, 1] == 0.5 and batch.scalars.isnan().sum() == 11
    assert pack(samples, (1, 2, 2), 12).scalars.shape == (6, 0)


def test_a_sample_of_which_only_given_tokens_are_kept_has_no_loss(samples: list[Sample]):
    """And not 0 / 0, which would be that of the whole step."""
    only_given = replace(samples[0], clean_mask=torch.arange(18) < 6, kept=torch.tensor([0, 3, 5]))
    batch = pack([only_given, samples[1]], (1, 2, 2), 12)
    objective = FlowConfig().build()
    losses = objective.token_losses(lambda x, *_: 0 * x, batch)
    assert torch.equal(losses[:3], torch.zeros(3))
    torch.testing.assert_close(objective.loss_sum(losses, batch), losses[3:].mean())


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


def test_moving_a_pack_moves_every_tensor_in_it(samples: list[Sample]):
    batch = prepare(pack(samples, (1, 2, 2), 12), dit_config(pattern="alternating"))
    seen = []
    moved = map_tensors(batch, lambda x: seen.append(x) or x.clone())
    assert len(seen) > 30
    assert torch.equal(moved.segments.cu_seqlens, batch.segments.cu_seqlens)
    groups = [next(iter(b.layout.groups.values())).order for b in (moved, batch)]
    assert torch.equal(*groups) and groups[0] is not groups[1]


def test_other_noise_in_a_pack_is_the_pack_of_samples_with_it(samples: list[Sample]):
    given = torch.arange(18) < 6
    clean = [replace(samples[0], clean_mask=given, timestep=0.0), *(replace(one, timestep=0.0) for one in samples[1:])]
    noises = [torch.randn_like(one.noise) for one in clean]
    noisy = [replace(one, noise=noise, timestep=0.7) for one, noise in zip(clean, noises, strict=True)]
    ours, expected = renoised(pack(clean, (1, 2, 2), 12), clean, noises, 0.7, (1, 2, 2)), pack(noisy, (1, 2, 2), 12)
    for name in ("noise", "tokens", "timesteps", "condition_timesteps", "condition_ids"):
        assert torch.equal(getattr(ours, name), getattr(expected, name)), name


@pytest.mark.parametrize("patch", [(1, 2, 2), (2, 2, 2), (2, 1, 4)])
@pytest.mark.parametrize("num_frames", [1, 3, 4])
def test_noise_drawn_as_tokens_is_noise_of_a_latent(patch: tuple[int, int, int], num_frames: int):
    """Copies of a lone frame have one noise."""
    tokens = draw_noise((3, num_frames, 4, 8), patch, torch.Generator().manual_seed(0))
    grid = grid_size((3, num_frames, 4, 8), patch)
    latent = unpatchify(tokens, grid, patch, num_frames)
    torch.testing.assert_close(patchify(latent, patch), tokens)
    assert 0.8 < tokens.std() < 1.2
