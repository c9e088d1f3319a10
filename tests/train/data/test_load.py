from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from threading import get_ident
from time import sleep

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from curate.shards.tar import TarReader
from train.data.blend import BlendConfig
from train.data.config import DataConfig
from train.data.drop import TokenDropConfig
from train.data.epoch import EpochConfig, EpochSamples
from train.data.load import PackLoader
from train.data.manifest import read_manifest
from train.data.plan import Cursor, PlanConfig, PlannedSample
from train.data.read import ClipReader
from train.data.reference import reference_sample
from train.data.tasks.first_frames import FirstFrames
from train.data.tasks.unconditional import Unconditional
from train.model.dit import DiT
from train.model.dit_config import DiTConfig
from train.objective.config import FlowConfig
from train.objective.flow import RectifiedFlow
from train.packing.patches import grid_size

PATCH = (1, 2, 2)


def loader(dataset: str | Path, *, seed: int = 0, **plan) -> PackLoader:
    manifest = read_manifest(str(dataset), split="train", patch=PATCH)
    config = DataConfig.model_validate({"plan": {"token_budget": 96, **plan}, "caption_dropout": 0.3})
    return PackLoader(manifest, RectifiedFlow(FlowConfig()), config, model=DiTConfig(), seed=seed)


def whole(source: PackLoader, row: int) -> PlannedSample:
    return PlannedSample(row, 0, int(source.manifest.num_tokens[row]))


def drawn(loaded_steps, num_steps: int) -> dict[tuple[int, str], tuple]:
    """What each sample of each epoch was given, in one comparable value."""
    given = {}
    for step in islice(loaded_steps, num_steps):
        for batch in step.batches:
            noise, text = batch.noise.split(batch.segments.lengths), batch.text.split(batch.text_segments.lengths)
            for i, clip in enumerate(batch.clip_ids):
                value = (noise[i].numpy().tobytes(), batch.timesteps[i].item(), text[i].numpy().tobytes())
                given.setdefault(clip, []).append(value)
    return given


def test_noise_timestep_and_caption_of_a_sample_do_not_depend_on_packs_or_ranks(dataset: str):
    first_epoch = {}
    for budget, packs in ((96, 1), (200, 2)):
        source = loader(dataset, token_budget=budget, packs_per_step=packs)
        steps = [source.steps(Cursor(), rank, packs) for rank in range(packs)]
        given = {}
        for of_rank in steps:
            for clip, values in drawn(of_rank, 40).items():
                given.setdefault(clip, []).extend(values)
        first_epoch[budget] = {clip: set(values) for clip, values in given.items()}
    small, large = first_epoch.values()
    assert set(small) == set(large) and len(small) == 20
    for clip in small:
        # The same epochs' draws on both sides; one side has met more epochs.
        assert min(small[clip], large[clip], key=len) <= max(small[clip], large[clip], key=len)


def test_epochs_redraw_and_captions_are_mixed_and_dropped(dataset: str):
    source = loader(dataset)
    samples = [[source.builder.build(whole(source, i), epoch) for i in range(20)] for epoch in range(8)]
    captioned = [s for epoch in samples for s in epoch if s.text is not None]
    assert {len(s.text) == 1 for s in captioned} == {True, False}  # short captions are one token here
    assert 0.4 < len(captioned) / 160 < 0.75  # a fifth has no caption, 30 % of the rest are dropped
    assert len({s.timestep for epoch in samples for s in epoch}) == 160
    assert not torch.equal(samples[0][0].noise, samples[1][0].noise)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.9])
def test_dense_captions_are_their_share_of_the_samples(dataset: str, share: float):
    manifest = read_manifest(dataset, split="train", patch=PATCH)
    config = DataConfig(blend=BlendConfig(dense=share, short=1 - share), caption_dropout=0)
    source = PackLoader(manifest, RectifiedFlow(FlowConfig()), config, model=DiTConfig(), seed=0)
    both = [i for i, captions in enumerate(manifest.captions(range(len(manifest)))) if len(captions) == 2]
    drawn = [source.builder.build(whole(source, i), epoch).text for i in both for epoch in range(60)]
    assert np.mean([len(text) > 1 for text in drawn]) == pytest.approx(share, abs=0.05)  # short ones are one token


def test_steps_count_the_whole_step_whatever_the_rank(dataset: str):
    source = loader(dataset, packs_per_step=3)
    ranks = [list(islice(source.steps(Cursor(), rank, 2), 4)) for rank in range(2)]
    for a, b in zip(*ranks, strict=True):
        assert (a.num_samples, a.num_tokens) == (b.num_samples, b.num_tokens)
        batches = [*a.batches, *b.batches]
        assert sum(batch.segments.num_tokens for batch in batches) == a.num_tokens
        assert sum(batch.segments.num_segments for batch in batches) == a.num_samples


def test_a_remainder_that_fills_no_patch_is_cut(make_dataset: Callable, make_clips: Callable):
    clip, *others = make_clips(3)
    odd = replace(clip, latent=np.concatenate([clip.latent, clip.latent[:, :, :1]], axis=2))
    source = loader(make_dataset([odd, *others]))
    index = source.manifest.clip_ids.index(odd.clip_id)
    assert source.builder.build(whole(source, index), 0).latent.shape[2] == odd.latent.shape[2] - 1


def test_a_latent_that_is_not_what_the_index_says_is_named(make_dataset: Callable, make_clips: Callable):
    clips = make_clips(3)
    clips[1].latent[0, 0, 0, 0] = np.nan
    source = loader(make_dataset(clips))
    index = source.manifest.clip_ids.index(clips[1].clip_id)
    with pytest.raises(ValueError, match=f"clip {clips[1].clip_id} .* with 1 NaN of .*encode it again"):
        source.builder.build(whole(source, index), 0)


def test_an_index_that_points_elsewhere_is_named(make_dataset: Callable, make_clips: Callable):
    root = make_dataset(make_clips(3))
    path = root / "latents/lat0/index.parquet"
    table = pq.read_table(path)
    moved = table.set_column(table.schema.get_field_index("offset"), "offset", [[7] * table.num_rows])
    pq.write_table(moved, path)
    with pytest.raises(ValueError, match=r"clip .*offset 7 is that of no member"):
        loader(root).builder.build(whole(loader(root), 0), 0)


def test_what_is_dropped_and_cut_is_what_the_plan_counted(dataset: str):
    epoch = {"drop": {"distribution": "uniform", "low": 0.2, "high": 0.8}}
    manifest = read_manifest(dataset, split="train", patch=PATCH)
    plan = {"token_budget": 24, "oversize": "crop"}
    config = DataConfig.model_validate({"plan": plan, "epoch": epoch})
    source = PackLoader(manifest, RectifiedFlow(FlowConfig()), config, model=DiTConfig(), seed=0)
    planned = [sample for pack in source.planner.epoch(0) for sample in pack]
    assert len(planned) == len(manifest)
    cut = dropped = 0
    for one in planned:
        sample = source.builder.build(one, 0)
        grid = grid_size(sample.latent.shape, PATCH)
        total = grid[0] * grid[1] * grid[2]
        assert one.num_tokens == (total if sample.kept is None else len(sample.kept))
        assert total <= 24 or grid[0] == 1
        cut += grid[0] < manifest.grids[one.row, 0]
        dropped += sample.kept is not None
    assert cut and dropped > len(planned) / 2


def test_a_sample_that_is_cut_keeps_its_first_frames_and_tells_its_own_length(dataset: str):
    manifest = read_manifest(dataset, split="train", patch=PATCH)
    seconds = pa.array([2.0 * t for t in manifest.table["latent_t"].to_pylist()])
    manifest = replace(manifest, table=manifest.table.append_column("duration_s", seconds))
    settings = {"plan": {"token_budget": 24, "oversize": "crop"}, "condition_dropout": 0}
    model = DiTConfig(conditions=("duration_s",))
    source = PackLoader(
        manifest, RectifiedFlow(FlowConfig()), DataConfig.model_validate(settings), model=model, seed=0
    )
    stride, num_cut = int(manifest.latents["temporal_stride"]), 0
    for one in (sample for pack in source.planner.epoch(0) for sample in pack):
        sample, row = source.builder.build(one, 0), manifest.row(one.row)
        whole, frames = source.builder.reader.latent(row), sample.latent.shape[1]
        assert torch.equal(sample.latent, whole[:, :frames])
        share = (1 + (frames - 1) * stride) / (1 + (whole.shape[1] - 1) * stride)
        assert sample.scalars["duration_s"] == pytest.approx(2 * whole.shape[1] * share)
        num_cut += frames < whole.shape[1]
    assert num_cut


def test_text_stays_half_as_large_until_it_is_on_the_device(dataset: str):
    batch = next(loader(dataset, token_budget=400).steps(Cursor(), 0, 1)).batches[0]
    assert batch.text.dtype == torch.float16 and batch.has_caption.any()
    model = DiT(DiTConfig(width=32, depth=1, num_heads=2), channels=4, text_dim=batch.text.shape[1])
    assert model(batch.tokens, batch.timesteps, batch).dtype == torch.float32


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_packs_for_a_gpu_are_pinned_where_they_are_loaded(dataset: str):
    source = loader(dataset)
    source.pin = True
    batch = next(source.steps(Cursor(), 0, 1)).batches[0]
    assert batch.tokens.is_pinned() and batch.text.is_pinned() and batch.segments.cu_seqlens.is_pinned()


def test_weights_decide_how_often_an_epoch_meets_a_clip(dataset: str):
    manifest = read_manifest(dataset, split="train", patch=PATCH)
    weights = np.linspace(0.25, 2.5, len(manifest))
    samples = EpochSamples(replace(manifest, weights=weights), EpochConfig(), PlanConfig(), seed=0)
    rows = np.arange(len(manifest))
    met = np.mean([samples.in_epoch(rows, epoch)[0] for epoch in range(400)], axis=0)
    np.testing.assert_allclose(met, weights, atol=0.12)
    plain = EpochSamples(replace(manifest, weights=weights), EpochConfig(balance=False), PlanConfig(), seed=0)
    assert (plain.in_epoch(rows, 0)[0] == 1).all()


def test_of_several_sizes_of_a_clip_one_is_drawn_for_each_epoch(dataset: str):
    manifest = read_manifest(dataset, split="train", patch=PATCH)
    twice = replace(manifest, table=pa.concat_tables([manifest.table] * 2),
                    grids=np.repeat(manifest.grids, 2, 0), keys=np.repeat(manifest.keys, 2),
                    sources=np.repeat(manifest.sources, 2), weights=np.ones(2 * len(manifest)))  # fmt: skip
    samples = EpochSamples(twice, EpochConfig(resolution="one"), PlanConfig(), seed=0)
    met = np.array([samples.in_epoch(np.arange(len(twice)), epoch)[0] for epoch in range(60)])
    assert (met.reshape(60, -1, 2).sum(2) == 1).all()
    assert 0.4 < met[:, ::2].mean() < 0.6


@pytest.mark.parametrize(("power", "expected"), [(0.0, 1 / 2), (-1.0, 4 / 5), (1.0, 1 / 5)])
def test_odds_of_sizes_are_a_power_of_their_tokens(dataset: str, power: float, expected: float):
    """A clip at two sizes, of which the second has four times the tokens."""
    manifest = read_manifest(dataset, split="train", patch=PATCH)
    grids = np.repeat(manifest.grids, 2, 0)
    grids[1::2, 1:] *= 2
    twice = replace(manifest, table=pa.concat_tables([manifest.table] * 2), grids=grids,
                    keys=np.repeat(manifest.keys, 2), sources=np.repeat(manifest.sources, 2),
                    weights=np.ones(2 * len(manifest)))  # fmt: skip
    samples = EpochSamples(twice, EpochConfig(resolution="one", size_power=power), PlanConfig(), seed=0)
    met = np.array([samples.in_epoch(np.arange(len(twice)), epoch)[0] for epoch in range(100)])
    assert (met.reshape(100, -1, 2).sum(2) == 1).all()
    assert met[:, ::2].mean() == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("distribution", ["none", "constant", "uniform", "truncated_normal", "beta"])
def test_drop_rates_follow_their_distribution(distribution: str):
    config = TokenDropConfig(distribution=distribution, low=0.1, high=0.7, mean=0.4, std=0.1)
    rates = config.rates(np.linspace(0.001, 0.999, 999), np.full(999, 256), 0)
    around = (0.4, 0.1)
    expected = {"none": (0, 0), "constant": (0.1, 0), "uniform": (0.4, 0.6 / 12**0.5)}
    mean, std = expected.get(distribution, around)
    assert rates.mean() == pytest.approx(mean, abs=0.01)
    assert rates.std() == pytest.approx(std, abs=0.01)


def test_dropped_tokens_do_not_move_the_timestep(dataset: str):
    """A thinned video is as redundant as the whole one; sampling, which drops nothing, shifts by the whole grid."""
    source = loader(dataset)
    source.builder.objective = RectifiedFlow(FlowConfig(shift_base_tokens=8))
    for row in range(20):
        thinned = whole(source, row)._replace(num_tokens=1)
        assert source.builder.build(thinned, 0).timestep == source.builder.build(whole(source, row), 0).timestep


def test_first_frames_of_videos_are_shown_and_nothing_else_changes(dataset: str):
    plain, shown = loader(dataset), loader(dataset)
    tasks = (Unconditional(weight=3), FirstFrames(weight=3, max_frames=2))
    shown.builder.config = shown.builder.config.model_copy(update={"tasks": tasks})
    num_frames = []
    for row in range(20):
        for epoch in range(10):
            one, other = (source.builder.build(whole(source, row), epoch) for source in (plain, shown))
            assert one.clean_mask is None
            assert one.timestep == other.timestep and torch.equal(one.noise, other.noise)
            t, h, w = grid_size(other.latent.shape, PATCH)
            if other.clean_mask is not None:
                frames = other.clean_mask.view(t, h * w)
                assert frames.all(1).equal(frames.any(1)) and frames[0].all()
                assert 1 <= len(frames[frames.all(1)]) <= t // 2
            if t > 1:
                num_frames.append(0 if other.clean_mask is None else int(other.clean_mask.sum()) // (h * w))
            else:
                assert other.clean_mask is None
    assert 0.4 < np.mean(np.array(num_frames) > 0) < 0.6
    assert set(num_frames) == {0, 1, 2}


def test_who_is_shown_an_estimate_is_drawn_for_each_sample_and_moves_no_other_draw(dataset: str):
    plain, drawing = loader(dataset), loader(dataset)
    drawing.builder.model = drawing.builder.model.model_copy(update={"self_conditioning": 0.7})
    drawn = []
    for row in range(20):
        for epoch in range(10):
            one, other = (source.builder.build(whole(source, row), epoch) for source in (plain, drawing))
            assert one.self_conditioned is None
            assert one.timestep == other.timestep and torch.equal(one.noise, other.noise)
            drawn.append(other.self_conditioned)
    assert np.mean(drawn) == pytest.approx(0.7, abs=0.07) and len(set(drawn[:10])) == 2
    assert drawn[3] == drawing.builder.build(whole(drawing, 0), 3).self_conditioned


def test_the_samples_of_a_pack_are_read_at_the_same_time(dataset: str, monkeypatch: pytest.MonkeyPatch):
    source, read, at_once = loader(dataset), TarReader.read, []
    reading: set[int] = set()

    def slow(*args, **member) -> bytes:
        reading.add(get_ident())
        sleep(0.02)
        at_once.append(len(reading))
        reading.discard(get_ident())
        return read(*args, **member)

    plain = next(source.steps(Cursor(), 0, 1)).batches[0]
    monkeypatch.setattr(TarReader, "read", slow)
    batch = next(source.steps(Cursor(), 0, 1)).batches[0]
    assert max(at_once) > 1
    assert batch.clip_ids == plain.clip_ids and torch.equal(batch.noise, plain.noise)


def test_of_the_smallest_sample_a_token_is_left(dataset: str):
    manifest = read_manifest(dataset, split="train", patch=PATCH)
    drop = TokenDropConfig(distribution="constant", low=0.99)
    samples = EpochSamples(manifest, EpochConfig(drop=drop), PlanConfig(), seed=0)
    _, tokens = samples.in_epoch(np.arange(len(manifest)), 0)
    assert tokens.min() == 1 and len(tokens) == len(manifest)


@pytest.mark.parametrize(("mean", "std"), [(0.5, 0.2), (0.2, 0.15), (0.3, 0.25)])
def test_beta_has_the_quantiles_of_the_distribution(mean: float, std: float):
    u = np.linspace(0.01, 0.99, 99)
    config = TokenDropConfig(distribution="beta", low=0.0, high=0.9, mean=mean, std=std)
    total = (mean / 0.9) * (1 - mean / 0.9) / (std / 0.9) ** 2 - 1
    a, b = mean / 0.9 * total, (1 - mean / 0.9) * total
    found = torch.from_numpy(config.rates(u, np.full(99, 256), 0) / 0.9)
    x = torch.linspace(0, 1, 200_001, dtype=torch.float64)[1:-1]
    density = torch.distributions.Beta(torch.tensor(a).double(), torch.tensor(b).double()).log_prob(x).exp()
    below = (density.cumsum(0) / density.sum())[(found * 200_000).long().clamp(0, len(x) - 1)]
    torch.testing.assert_close(below, torch.from_numpy(u), atol=0.01, rtol=0)


@pytest.mark.parametrize("distribution", ["truncated_normal", "beta"])
def test_larger_samples_lose_more_and_later_epochs_less(distribution: str):
    settings = {"mean": 0.4, "std": 0.05, "per_doubling": 0.1, "final": 0.5, "final_epoch": 10}
    config = TokenDropConfig.model_validate({"distribution": distribution, **settings})
    u, sizes = np.full(4, 0.5), np.array([128, 256, 512, 512])
    rates = config.rates(u, sizes, 0)
    np.testing.assert_allclose(rates, [0.3, 0.4, 0.5, 0.5], atol=0.005)
    np.testing.assert_allclose(config.rates(u, sizes, 5), 0.75 * rates)
    np.testing.assert_allclose(config.rates(u, sizes, 50), 0.5 * rates)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"distribution": "uniform", "per_doubling": 0.1}, "per_doubling moves a mean, and uniform has none"),
        ({"distribution": "beta", "mean": 0.95}, "expected a mean between them"),
        ({"distribution": "beta", "std": 0.5}, "a deviation below the root of"),
        ({"distribution": "constant", "low": 0.6, "final": 2.0}, "a factor that leaves all rates below 1"),
    ],
)
def test_settings_of_dropping_that_contradict_are_told(settings: dict, message: str):
    with pytest.raises(ValueError, match=message):
        TokenDropConfig.model_validate(settings)


def test_shares_of_dropped_tokens_that_descend_are_refused():
    with pytest.raises(ValueError, match=r"low 0\.8 above high 0\.2"):
        TokenDropConfig(distribution="uniform", low=0.8, high=0.2)


@pytest.mark.parametrize("patch", [(1, 2, 2), (2, 2, 2)])
def test_places_in_time_are_seconds_of_the_clip(
    make_dataset: Callable, make_clips: Callable, patch: tuple[int, int, int]
):
    """A latent has a frame for 4 of the clip, at 12 a second here: it lies 1/3 s further, which is 8 / 24."""
    clips = [replace(clip, latent=np.tile(clip.latent[:, :1], (1, 4, 1, 1))) for clip in make_clips(4, num_val=1)]
    root = str(make_dataset(clips))
    model = DiTConfig(patch=patch, reference_fps=24.0)
    source = PackLoader(
        read_manifest(root, split="train", patch=patch), RectifiedFlow(FlowConfig()), DataConfig(), model=model, seed=0
    )
    step = next(source.steps(Cursor(), 0, 1))
    places = step.batches[0].layout.coordinates[:, 0].unique().tolist()
    assert places == [i * 8.0 * patch[0] for i in range(4 // patch[0])]
    held_out = read_manifest(root, split="val", patch=patch)
    clip = reference_sample(ClipReader(held_out, patch), 0, model)
    assert (clip.fps, clip.temporal_stride) == (12.0, 4)
