from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from train.data.manifest import Manifest, read_manifest
from train.data.plan import PlanConfig
from train.data.read import ClipReader
from train.data.reference import noised
from train.distributed.ranks import RankGrid
from train.evaluate.base import EvaluationContext
from train.evaluate.captions import CaptionLoss, caption_donors
from train.evaluate.config import CaptionLossConfig, HeldOutLossConfig
from train.evaluate.held_out import HeldOutLoss
from train.model.base_config import ESTIMATE
from train.model.dit import DiT
from train.model.dit_config import DiTConfig
from train.objective.config import DDPMConfig, FlowConfig
from train.objective.flow import RectifiedFlow
from train.optim.ema import EMA
from train.packing.batch import PackedBatch, Sample, pack
from train.run.config import EMAConfig, TrainConfig

PATCH = (1, 2, 2)


def context(manifest: Manifest, token_budget: int) -> EvaluationContext:
    return EvaluationContext(
        train=manifest,
        val=manifest,
        objective=RectifiedFlow(FlowConfig()),
        plan=PlanConfig(token_budget=token_budget),
        model=DiTConfig(),
        ranks=RankGrid(rank=0, world_size=1, device=torch.device("cpu")),
        out=Path(),
    )


def held_out(manifest: Manifest, token_budget: int) -> HeldOutLoss:
    return HeldOutLoss(HeldOutLossConfig(timesteps=(0.2, 0.8)), context(manifest, token_budget))


def captions(manifest: Manifest, model: DiT, token_budget: int = 4096) -> Mapping[str, Any]:
    evaluator = CaptionLoss(CaptionLossConfig(timesteps=(0.2, 0.8)), context(manifest, token_budget))
    return evaluator.evaluate(model, EMA(model, EMAConfig()), step=1).metrics


@pytest.fixture
def model() -> DiT:
    model = DiT(DiTConfig(width=32, depth=1, num_heads=2), channels=4, text_dim=12)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data = 0.15 * torch.randn(parameter.shape, generator=generator)
    return model


def test_held_out_loss_is_the_same_every_time_whatever_the_packs(dataset: str, model: DiT):
    manifest = read_manifest(dataset, split="val", patch=PATCH)
    first = held_out(manifest, 4096).losses(model)
    torch.manual_seed(7)
    assert held_out(manifest, 4096).losses(model) == first
    small_packs = held_out(manifest, 32).losses(model)
    assert small_packs["loss"] == pytest.approx(first["loss"], rel=1e-6)
    assert first["loss"] == pytest.approx(sum(first["by_timestep"].values()) / 2)
    assert first["by_timestep"]["0.2"] != first["by_timestep"]["0.8"]


def test_a_model_that_reads_its_own_estimate_is_measured_with_it(dataset: str):
    seen: list[bool] = []

    def model(x: torch.Tensor, _: torch.Tensor, batch: PackedBatch) -> torch.Tensor:
        estimate = batch.conditioning.get(ESTIMATE)
        seen.append(estimate is not None and bool(estimate.any(1).all()))
        return 0 * x

    manifest = read_manifest(dataset, split="val", patch=PATCH)
    shape = DiTConfig(self_conditioning=0.1)
    HeldOutLoss(HeldOutLossConfig(timesteps=(0.2, 0.8)), replace(context(manifest, 4096), model=shape)).losses(model)
    assert seen == [False, True] * 2


def test_each_clip_is_read_once(dataset: str, model: DiT, monkeypatch: pytest.MonkeyPatch):
    read, of = [], ClipReader.read
    monkeypatch.setattr(
        ClipReader, "read", lambda reader, row, **given: read.append(row["clip_id"]) or of(reader, row, **given)
    )
    train, val = (read_manifest(dataset, split=split, patch=PATCH) for split in ("train", "val"))
    for losses in (lambda: held_out(val, 32).losses(model), lambda: captions(train, model, 32)):
        assert losses()
        assert len(read) == len(set(read)) > 1
        read.clear()


def test_an_early_step_every_so_many_and_the_last_are_validated():
    config = HeldOutLossConfig(first=3, every=5)
    assert [step for step in range(1, 13) if config.is_due(step, 12)] == [3, 5, 10, 12]


def test_noise_is_of_the_clip_and_the_timestep(samples: list[Sample]):
    """Each clip has its own at each timestep, the same every time."""
    keys = [("validation", clip, t) for clip in ("a", "b") for t in (0.2, 0.8)]
    drawn = [noised(samples[0], 0.5, *key).noise for key in keys]
    assert len({noise.numpy().tobytes() for noise in drawn}) == 4
    assert torch.equal(noised(samples[0], 0.5, *keys[1]).noise, drawn[1])


def test_losses_by_bin_are_those_of_the_clips_in_it(dataset: str, model: DiT):
    """The bins' means, weighted by their clips, are the whole; and an image's losses are those of images alone."""
    manifest = read_manifest(dataset, split="val", patch=PATCH)
    losses = held_out(manifest, 4096).losses(model)
    cells = [(losses["clips"][d][r], by_t) for d, cells in losses["by_bin"].items() for r, by_t in cells.items()]
    assert sum(n for n, _ in cells) == len(manifest) and len(cells) > 1
    for t in ("0.2", "0.8"):
        assert losses["by_timestep"][t] == pytest.approx(sum(n * by_t[t] for n, by_t in cells) / len(manifest))
    rows = [row for row in range(len(manifest)) if manifest.row(row)["kind"] == "image"]
    images = replace(
        manifest,
        table=manifest.table.take(rows),
        grids=manifest.grids[rows],
        keys=manifest.keys[rows],
        sources=manifest.sources[rows],
    )
    alone = held_out(images, 4096).losses(model)
    assert set(alone["by_bin"]) == {"image"} and len(rows) > 0
    for resolution, by_t in alone["by_bin"]["image"].items():
        assert by_t == pytest.approx(losses["by_bin"]["image"][resolution], rel=1e-5)


def test_edges_belong_to_the_bin_above():
    config = HeldOutLossConfig(duration_edges_s=(2, 4), resolution_edges_px=(256,))
    assert [config.duration(s) for s in (0, 0.5, 2, 3.9, 4, 60)] == [
        "image",
        "0-2 s",
        "2-4 s",
        "2-4 s",
        "4+ s",
        "4+ s",
    ]
    assert [config.resolution(*sides) for sides in ((255, 256), (256, 256))] == ["0-256 px", "256+ px"]
    assert HeldOutLossConfig(duration_edges_s=()).duration(3) == "0+ s"


@pytest.mark.parametrize("edges", [(4, 2), (2, 2), (0, 2), (-1.0,)])
def test_edges_that_do_not_ascend_are_refused(edges: tuple[float, ...]):
    with pytest.raises(ValueError, match="each above the one before"):
        HeldOutLossConfig(duration_edges_s=edges)


@pytest.mark.parametrize(
    ("objective", "timestep"),
    [
        ({"kind": "ddpm"}, 1.0),
        ({"kind": "ddpm"}, 0.9996),
        ({"kind": "ddpm", "num_timesteps": 10}, 0.95),
        ({"kind": "flow"}, 1.1),
        ({"kind": "flow"}, -0.1),
        ({"kind": "ddpm"}, -0.1),
        ({"kind": "flow"}, float("nan")),
    ],
)
def test_timesteps_that_the_objective_has_not_are_refused(objective: dict, timestep: float):
    """Before anything is read; a DDPM's table would be read beyond its end, or from its end."""
    with pytest.raises(ValueError, match="timesteps"):
        TrainConfig.model_validate({"objective": objective, "evaluate": {"held_out": {"timesteps": [0.5, timestep]}}})


@pytest.mark.parametrize("objective", [{"kind": "ddpm"}, {"kind": "ddpm", "num_timesteps": 10}, {"kind": "flow"}])
def test_the_last_timestep_is_taken(objective: dict, samples: list[Sample]):
    last = 1.0 if objective["kind"] == "flow" else 1 - 1 / objective.get("num_timesteps", 1000)
    settings = TrainConfig.model_validate(
        {"objective": objective, "evaluate": {"held_out": {"timesteps": [0.0, last]}}}
    )
    batch = pack([replace(samples[0], timestep=last)], PATCH, 12)
    assert settings.objective.build().token_losses(lambda x, *_: 0 * x, batch).isfinite().all()


def test_more_steps_of_a_preview_than_timesteps_are_refused():
    settings = {"objective": {"kind": "ddpm", "num_timesteps": 20}, "evaluate": {"samples": {"every": 5}}}
    with pytest.raises(ValueError, match=r"num_steps: got 30, and the objective has 20 timesteps"):
        TrainConfig.model_validate(settings)
    TrainConfig.model_validate(settings | {"evaluate": {"samples": {"every": 0}}})
    TrainConfig.model_validate(settings | {"evaluate": {"samples": {"every": 5, "num_steps": 20}}})


def test_a_sample_at_a_timestep_that_a_ddpm_has_not_is_refused(samples: list[Sample]):
    batch = pack([replace(samples[0], timestep=1.0)], PATCH, 12)
    with pytest.raises(ValueError, match=r"got timestep 1; a DDPM of 1000 timesteps has those from 0 to 0\.999"):
        DDPMConfig().build().token_losses(lambda x, *_: 0 * x, batch)
    with pytest.raises(ValueError, match=r"got timestep 1\.5"):
        replace(samples[0], timestep=1.5)


def test_caption_losses_differ_only_by_the_caption(dataset: str, model: DiT):
    manifest = read_manifest(dataset, split="train", patch=PATCH)
    with_text = captions(manifest, model, 4096)
    assert with_text["caption_loss_true"] != with_text["caption_loss_shuffled"]
    assert with_text["caption_clips"] == len(caption_donors(manifest, 64)) > 10
    torch.nn.init.zeros_(model.conditioner.caption.pool.weight)
    torch.nn.init.zeros_(model.blocks[0].cross_attention.out.weight)
    deaf = captions(manifest, model, 4096)
    assert deaf["caption_loss_true"] == pytest.approx(deaf["caption_loss_shuffled"], rel=1e-6)


def test_a_donor_is_another_clip_whose_caption_reads_differently(dataset: str):
    manifest = read_manifest(dataset, split="train", patch=PATCH)
    texts = manifest.captions(range(len(manifest)))
    donors = caption_donors(manifest, 64)
    assert set(donors) == {i for i, of_clip in enumerate(texts) if of_clip}
    assert all(texts[row] != texts[donor] for row, donor in donors.items())


def test_a_donor_differs_in_the_caption_that_is_evaluated(make_dataset: Callable, make_clips: Callable):
    """Clips of one dense caption and other short ones would be evaluated under the same text."""
    dense = np.ones((2, 12), np.float16)
    clips = [replace(clip, short=np.full((1, 12), i, np.float16), dense=dense) for i, clip in enumerate(make_clips(4))]
    assert caption_donors(read_manifest(str(make_dataset(clips)), split="train", patch=PATCH), 64) == {}


def test_without_two_captions_there_is_no_caption_test(make_dataset: Callable, make_clips: Callable, model: DiT):
    manifest: Manifest = read_manifest(str(make_dataset(make_clips(1))), split="train", patch=PATCH)
    assert captions(manifest, model, 512) == {}
