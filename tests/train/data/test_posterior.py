"""Latents that training draws from their posterior."""

import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.forks import run_ranks
from tests.support.latents import smooth_clips, write_dataset
from tests.train.test_loop import config, killed_after_step_7, logged
from train.data.config import DataConfig
from train.data.epoch import EpochSamples
from train.data.manifest import read_manifest
from train.data.plan import PlannedSample
from train.data.read import ClipReader
from train.data.reference import reference_sample
from train.data.sample import SampleBuilder
from train.loop import train
from train.model.dit_config import DiTConfig
from train.objective.config import FlowConfig
from train.run.folder import load_model

PATCH = (1, 2, 2)
MODEL = DiTConfig(width=32, num_heads=2, depth=1, patch=PATCH)


@pytest.fixture(scope="module")
def posteriors(tmp_path_factory: pytest.TempPathFactory) -> str:
    clips = smooth_clips(24, num_val=4)
    logvars = [np.full_like(clip.latent, -1.0) for clip in clips]
    clips = [replace(clip, logvar=logvar) for clip, logvar in zip(clips, logvars, strict=True)]
    return str(write_dataset(tmp_path_factory.mktemp("posteriors"), clips))


def builder(dataset: str) -> SampleBuilder:
    manifest, data = read_manifest(dataset, split="train", patch=PATCH), DataConfig()
    samples = EpochSamples(manifest, data.epoch, data.plan, 0)
    return SampleBuilder(samples, ClipReader(manifest, PATCH), FlowConfig().build(), data, MODEL, seed=0)


def planned(build: SampleBuilder, row: int, occurrence: int = 0) -> PlannedSample:
    return PlannedSample(row=row, num_tokens=int(build.manifest.num_tokens[row]), occurrence=occurrence)


def test_each_occurrence_of_a_sample_has_a_draw_of_its_own(posteriors: str) -> None:
    build = builder(posteriors)
    mean = build.reader.latent(build.manifest.row(3))
    draws = [build.build(planned(build, 3, n), epoch).latent for n, epoch in ((0, 0), (0, 1), (1, 0))]
    assert not any(torch.equal(a, b) for i, a in enumerate(draws) for b in draws[:i])
    assert torch.equal(draws[0], builder(posteriors).build(planned(build, 3), 0).latent)
    for draw in draws:
        assert 0.3 < (draw - mean).std() < 0.9  # exp(-1 / 2) = 0.61


def test_other_draws_are_those_of_a_dataset_of_means(posteriors: str, dataset: str) -> None:
    with_posterior, without = builder(posteriors), builder(dataset)
    for row in range(4):
        one, other = (build.build(planned(build, row), 0) for build in (with_posterior, without))
        assert one.timestep == other.timestep and torch.equal(one.noise, other.noise)
        assert not torch.equal(one.latent, other.latent)


def test_validation_has_the_mean(posteriors: str, dataset: str) -> None:
    readers = [ClipReader(read_manifest(url, split="val", patch=PATCH), PATCH) for url in (posteriors, dataset)]
    one, other = (reference_sample(reader, 0, MODEL) for reader in readers)
    assert torch.equal(one.latent, other.latent)


def test_kill_9_of_a_run_on_posteriors_continues_bitwise(posteriors: str, tmp_path: Path) -> None:
    settings = config(steps=8)
    train(settings, posteriors, tmp_path / "whole")
    (killed,) = run_ranks(1, settings, posteriors, tmp_path / "killed", killed_after_step_7)
    assert killed.code == -signal.SIGKILL, killed
    train(settings, posteriors, tmp_path / "killed")
    assert logged(tmp_path / "killed") == logged(tmp_path / "whole")
    whole, other = (load_model(tmp_path / run)[0].state_dict() for run in ("whole", "killed"))
    assert all(torch.equal(whole[name], other[name]) for name in whole)


def test_a_logvar_that_is_damaged_is_told_with_its_clip(tmp_path: Path) -> None:
    clips = [replace(clip, logvar=np.full_like(clip.latent, np.nan)) for clip in smooth_clips(3)]
    manifest = read_manifest(str(write_dataset(tmp_path, clips)), split="train", patch=PATCH)
    with pytest.raises(
        ValueError, match=rf"clip {manifest.clip_ids[0]} .* a logvar of shape .* NaN .* encode it again"
    ):
        ClipReader(manifest, PATCH).latent(manifest.row(0))
