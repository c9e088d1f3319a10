import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from train.data.load import DataConfig, PackLoader, prefetch
from train.data.manifest import read_manifest
from train.objective.flow import FlowConfig, RectifiedFlow

PATCH = (1, 2, 2)


def loader(dataset: str | Path, *, seed: int = 0, **plan) -> PackLoader:
    manifest = read_manifest(str(dataset), split="train", patch=PATCH)
    config = DataConfig.model_validate({"plan": {"token_budget": 96, **plan}, "caption_dropout": 0.3})
    return PackLoader(manifest, RectifiedFlow(FlowConfig()), config, patch=PATCH, seed=seed)


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
        steps = [source.steps(0, rank, packs) for rank in range(packs)]
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
    samples = [[source.sample(i, epoch) for i in range(20)] for epoch in range(8)]
    captioned = [s for epoch in samples for s in epoch if s.text is not None]
    assert {len(s.text) == 1 for s in captioned} == {True, False}  # short captions are one token here
    assert 0.4 < len(captioned) / 160 < 0.75  # a fifth has no caption, 30 % of the rest are dropped
    assert len({s.timestep for epoch in samples for s in epoch}) == 160
    assert not torch.equal(samples[0][0].noise, samples[1][0].noise)


def test_steps_count_the_whole_step_whatever_the_rank(dataset: str):
    source = loader(dataset, packs_per_step=3)
    ranks = [list(islice(source.steps(0, rank, 2), 4)) for rank in range(2)]
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
    assert source.sample(index, 0).latent.shape[2] == odd.latent.shape[2] - 1


def test_a_latent_that_is_not_what_the_index_says_is_named(make_dataset: Callable, make_clips: Callable):
    clips = make_clips(3)
    clips[1].latent[0, 0, 0, 0] = np.nan
    source = loader(make_dataset(clips))
    index = source.manifest.clip_ids.index(clips[1].clip_id)
    with pytest.raises(ValueError, match=f"clip {clips[1].clip_id} .*finite: False.*encode it again"):
        source.sample(index, 0)


def test_an_index_that_points_elsewhere_is_named(make_dataset: Callable, make_clips: Callable):
    root = make_dataset(make_clips(3))
    path = root / "latents/lat0/index.parquet"
    table = pq.read_table(path)
    moved = table.set_column(table.schema.get_field_index("offset"), "offset", [[7] * table.num_rows])
    pq.write_table(moved, path)
    with pytest.raises(ValueError, match="points at no safetensors"):
        loader(root).sample(0, 0)


def test_prefetch_keeps_order_raises_here_and_stops_its_thread():
    def items():
        yield from range(5)
        raise ValueError("item 5 is unreadable")

    ahead = prefetch(items(), depth=2)
    assert [next(ahead) for _ in range(5)] == list(range(5))
    with pytest.raises(ValueError, match="item 5 is unreadable"):
        next(ahead)
    endless = prefetch(iter(int, 1), depth=2)
    next(endless)
    endless.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]
