"""Latents that samples are conditioned on: matched by the indices, brought to the grid, shown with noise."""

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch.nn import functional as F

from tests.support.families import members
from tests.support.latents import add_latents, smooth_clips, write_dataset
from tests.train.model.test_denoisers import SMALL
from tests.train.test_loop import Stopped, config, logged, stop_after
from train.data.conditioning.base import ConditioningSettings
from train.data.conditioning.config import ConditioningConfig
from train.data.config import DataConfig
from train.data.epoch import EpochSamples
from train.data.mix import read_datasets
from train.data.plan import PlanConfig, PlannedSample
from train.data.read import ClipReader
from train.data.reference import reference_sample
from train.data.sample import SampleBuilder
from train.loop import train
from train.model.config import ModelConfig
from train.model.dit_config import DiTConfig
from train.objective.config import FlowConfig
from train.packing.batch import Sample, pack
from train.packing.patches import grid_size
from train.run.folder import load_model, read_run

MEMBERS = members(ConditioningConfig)
PATCH = (1, 2, 2)


def builder(dataset: str | list[str], *conditioning: dict[str, Any], **data: Any) -> SampleBuilder:
    settings = DataConfig.model_validate({"latents": "lat0", "conditioning": conditioning, **data})
    model = DiTConfig(width=32, num_heads=2, depth=1, patch=PATCH)
    manifest = read_datasets(dataset, split="train", data=settings, model=model)
    samples = EpochSamples(manifest, settings.epoch, settings.plan, 0)
    return SampleBuilder(samples, ClipReader(manifest, PATCH), FlowConfig().build(), settings, model, seed=0)


def built(build: SampleBuilder, row: int, epoch: int = 0) -> Sample:
    return build.build(PlannedSample(row=row, num_tokens=int(build.manifest.num_tokens[row]), occurrence=0), epoch)


def a_sample() -> Sample:
    latent = torch.randn(4, 5, 8, 12, generator=torch.Generator().manual_seed(1))
    return Sample(clip_id="a", latent=latent, noise=torch.zeros_like(latent), timestep=0.5, fps=12, text=None)


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.model_fields["kind"].default)
def test_a_member_shows_a_smaller_latent_on_the_grid_of_its_sample(member: type[ConditioningSettings]):
    one = member()
    assert TypeAdapter(ConditioningConfig).validate_json(one.model_dump_json()) == one
    frames = 1 + 4 // one.frame_step
    small = torch.randn(4, frames, round(8 / one.side_factor), round(12 / one.side_factor))
    shown = one.on_grid(small, (5, 8, 12))
    assert shown.shape == (4, 5, 8, 12)
    assert torch.equal(one.on_grid(torch.ones_like(small), (5, 8, 12)), torch.ones(4, 5, 8, 12))
    assert torch.equal(one.condition(a_sample(), shown, 0.0, torch.Generator()).conditioning[one.kind], shown)


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.model_fields["kind"].default)
def test_noise_has_a_level_that_is_told_and_keeps_the_variance(member: type[ConditioningSettings]):
    one, shown = member(max_noise=0.8), torch.randn(4, 5, 64, 96, generator=torch.Generator().manual_seed(0))
    large = replace(a_sample(), latent=shown, noise=shown)
    drawn = [one.draw(large, shown, torch.Generator().manual_seed(seed)) for seed in range(40)]
    levels = [sample.noise_levels[one.kind] for sample in drawn]
    assert 0 <= min(levels) < 0.1 and 0.7 < max(levels) < 0.8
    for sample, level in zip(drawn, levels, strict=True):
        latent = sample.conditioning[one.kind]
        assert float(latent.std()) == pytest.approx(1, abs=0.02)
        assert float((latent * shown).mean()) == pytest.approx((1 - level**2) ** 0.5, abs=0.02)
    again = one.draw(large, shown, torch.Generator().manual_seed(7))
    assert torch.equal(again.conditioning[one.kind], drawn[7].conditioning[one.kind])
    assert pack([large, *drawn[:2]], PATCH, 8).noise_levels[one.kind].tolist() == pytest.approx(
        [math.nan, *levels[:2]], nan_ok=True
    )


def test_super_resolution_is_conditioned_on_the_smaller_size_of_the_same_clip(stored: str):
    build = builder(stored, {"kind": "spatial", "max_noise": 0})
    assert len(build.manifest) == 10, "clips that have no second size are left out"
    for row in range(10):
        sample = built(build, row)
        low = F.interpolate(sample.latent[:, :, ::2, ::2], sample.latent.shape[2:], mode="bilinear")
        assert torch.allclose(sample.conditioning["spatial"], low, atol=1e-6)
        assert sample.noise_levels == {"spatial": 0.0}


def test_interpolation_is_conditioned_on_the_lower_rate_and_a_run_learns_several_rates(stored: str):
    build = builder(stored, {"kind": "temporal", "max_noise": 0}, latents=["lat0", "slow"])
    rates = set(zip(*(table["fps"].to_pylist() for table in build.manifest.latent_tables), strict=True))
    assert rates == {(12.0, 6.0), (6.0, 3.0)}
    samples = [built(build, row) for row in range(len(build.manifest))]
    assert all(sample.latent.shape[1] > 1 for sample in samples), "images have no rate"
    for sample in samples:
        latent, shown = sample.latent, sample.conditioning["temporal"]
        assert torch.equal(shown[:, ::2], latent[:, ::2])
        for left, right in pairwise(range(0, latent.shape[1], 2)):
            assert torch.allclose(shown[:, left + 1], (latent[:, left] + latent[:, right]) / 2, atol=1e-6)


def test_clips_of_several_datasets_are_each_conditioned_on_their_own(stored: str, tmp_path: Path):
    other = write_dataset(tmp_path / "other", smooth_clips(8, num_val=2))
    add_latents(other, "half", lambda latent: latent[:, :, ::2, ::2])
    build = builder([stored, str(other)], {"kind": "spatial", "max_noise": 0})
    assert len(build.manifest) == 10 + 6 and set(build.manifest.sources.tolist()) == {0, 1}
    for row in range(16):
        sample = built(build, row)
        low = F.interpolate(sample.latent[:, :, ::2, ::2], sample.latent.shape[2:], mode="bilinear")
        assert torch.allclose(sample.conditioning["spatial"], low, atol=1e-6)


def test_latents_of_an_earlier_version_condition_nothing(tmp_path: Path):
    dataset = write_dataset(tmp_path / "dataset", smooth_clips(8, num_val=2))
    add_latents(dataset, "half", lambda latent: latent[:, :, ::2, ::2])
    assert len(builder(str(dataset), {"kind": "spatial"}).manifest) == 6
    record = dataset / "latents/half/fingerprint.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"version": 1}))
    with pytest.raises(ValueError, match=r"none of the clip .*it has latents lat0\."):
        builder(str(dataset), {"kind": "spatial"})


def test_draws_of_conditioning_leave_the_other_draws_as_they_are(stored: str):
    with_it, without = builder(stored, {"kind": "temporal"}), builder(stored)
    rows = {clip: row for row, clip in enumerate(without.manifest.clip_ids)}
    first = built(with_it, 0)
    other = built(without, rows[first.clip_id])
    assert torch.equal(first.noise, other.noise) and first.timestep == other.timestep and not other.conditioning
    again, later = built(with_it, 0), built(with_it, 0, epoch=1)
    assert torch.equal(first.conditioning["temporal"], again.conditioning["temporal"])
    assert first.noise_levels == again.noise_levels != later.noise_levels


def test_what_is_cut_of_a_sample_is_cut_of_its_condition(stored: str):
    whole = builder(stored, {"kind": "temporal", "max_noise": 0})
    row = int(whole.manifest.grids[:, 0].argmax())
    budget = int(whole.manifest.grids[row, 1:].prod()) * 2
    cut = builder(stored, {"kind": "temporal", "max_noise": 0}, plan=PlanConfig(token_budget=budget, oversize="crop"))
    planned = PlannedSample(row=row, num_tokens=budget, occurrence=0)
    sample = cut.build(planned, 0)
    assert sample.latent.shape[1] == 2 < built(whole, row).latent.shape[1]
    assert torch.equal(sample.conditioning["temporal"], built(whole, row).conditioning["temporal"][:, :2])


def test_held_out_clips_are_conditioned_with_the_same_noise_every_time(stored: str):
    reader = builder(stored, {"kind": "spatial", "max_noise": 0.6}).reader
    one, other = (reference_sample(reader, 0, DiTConfig(patch=PATCH)) for _ in range(2))
    assert one.noise_levels == {"spatial": 0.3}
    assert torch.equal(one.conditioning["spatial"], other.conditioning["spatial"])


def test_a_dataset_without_a_second_size_is_refused_with_the_setting_that_stores_one(dataset: str, stored: str):
    for kind, setting in (("spatial", "encode.max_area_px"), ("temporal", "encode.fps")):
        with pytest.raises(ValueError, match=rf"none of the clip .*\({kind}, factor 2\).*latents lat0.*{setting}"):
            builder(dataset, {"kind": kind})
    with pytest.raises(ValueError, match="spatial, factor 8"):
        builder(stored, {"kind": "spatial", "factor": 8})
    with pytest.raises(ValidationError, match="each kind once"):
        DataConfig.model_validate({"conditioning": [{"kind": "spatial"}, {"kind": "spatial", "factor": 4}]})


@pytest.mark.parametrize("kind", ["dit", "unet"])
def test_a_sample_in_a_pack_is_steered_by_its_own_condition_and_level_as_alone(kind: str):
    settings: ModelConfig = TypeAdapter(ModelConfig).validate_python(
        {"kind": kind, **SMALL[kind], "conditioning_latents": {"spatial": 4}, "conditions": ["motion"]}
        | {"self_conditioning": 0.5}
    )
    model = settings.build(channels=4, text_dim=8).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    low = torch.randn(4, 5, 8, 12, generator=generator)
    given = torch.arange(math.prod(grid_size(low.shape, settings.patch))) < 4
    samples = [replace(a_sample(), conditioning={"spatial": x * low}, noise_levels={"spatial": s}, clip_id=f"{x} {s}",
                       self_conditioned=x > 0, clean_mask=given if s else None)
               for x, s in ((1, 0.0), (1, 0.5), (-1, 0.5))]  # fmt: skip

    @torch.no_grad()
    def output(samples: list[Sample]) -> list[torch.Tensor]:
        """The loss of each token, with the sample's own estimate and given tokens."""
        batch = settings.prepare(pack(samples, settings.patch, 8, settings.conditions))
        return list(FlowConfig().build().token_losses(model, batch).split(batch.segments.lengths))

    together = output(samples)
    for one, sample in zip(together, samples, strict=True):
        assert torch.allclose(one, output([sample])[0], atol=1e-5)
    assert not any(torch.allclose(a, b, atol=1e-3) for a, b in pairwise(together))


def test_a_run_resumes_exactly_and_its_record_says_what_it_was_conditioned_on(stored: str, tmp_path: Path):
    data = {
        "plan": {"token_budget": 128, "packs_per_step": 2},
        "latents": "lat0",
        "conditioning": [{"kind": "spatial"}],
        "tasks": [{"kind": "unconditional"}, {"kind": "first_frames"}, {"kind": "inpainting"}],
    }
    settings = config(steps=5, data=data, model__self_conditioning=0.5)
    train(settings, stored, tmp_path / "whole")
    with pytest.raises(Stopped):
        train(settings, stored, tmp_path / "stopped", on_step=stop_after(4))
    train(settings, stored, tmp_path / "stopped")
    assert logged(tmp_path / "stopped") == logged(tmp_path / "whole")
    whole, stopped = (load_model(tmp_path / run)[0].state_dict() for run in ("whole", "stopped"))
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)
    assert whole["embed_conditioning.layers.spatial.weight"].any()
    record = read_run(tmp_path / "whole")[1].conditioning
    assert record == {"spatial": {"kind": "spatial", "latents": ["half"], "factor": 2.0, "max_noise": 0.5}}
    path = tmp_path / "whole/run.json"
    path.write_text(path.read_text().replace('"half"', '"third"'))
    with pytest.raises(ValueError, match=r"was conditioned on .*third.*now gives .*half.*train\.data\.conditioning"):
        train(settings, stored, tmp_path / "whole")
