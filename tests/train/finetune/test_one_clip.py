"""Tune-A-Video (Wu et al. 2023, §3.4): query projections and temporal attention of a model, trained on one clip."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.test_loop import Stopped, config, logged, stop_after
from train.data.config import DataConfig
from train.data.manifest import Manifest
from train.data.mix import read_datasets
from train.data.read import ClipReader
from train.data.reference import noised, reference_sample
from train.loop import train
from train.model.base import Denoiser
from train.model.dit_config import DiTConfig
from train.objective.config import FlowConfig
from train.packing.batch import pack
from train.run.config import TrainConfig
from train.run.export import export_run
from train.run.folder import adapt_base, build_model, load_model, read_run

QUIET = {"evaluate__held_out__every": 0, "evaluate__captions__every": 0}
TRAINED = ("blocks.*.to_q.*", "blocks.*.self_attentions.1.*")


@pytest.fixture(scope="module", params=["joint", "factorized_self_attention"])
def base(request: pytest.FixtureRequest, dataset: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported model: of images, which has no temporal attention, or of videos."""
    out = tmp_path_factory.mktemp("base")
    train(config(steps=8, optimizer__lr=1e-2, model__mixer={"pattern": request.param}, **QUIET), dataset, out / "run")
    return export_run(out / "run", out / "model")


def clips_of(dataset: str, *names: str, split: str = "train") -> list[str]:
    return read_datasets(dataset, split=split, data=DataConfig(clips=names), model=DiTConfig()).clip_ids


def tuned(base: Path, clip: str) -> TrainConfig:
    settings: dict[str, Any] = {
        "steps": 24,
        "init": str(base),
        "trainable": TRAINED,
        "model__mixer": {"pattern": "sparse_causal"},
        "data__clips": [clip],
        "data__caption_dropout": 0,
        "data__plan": {"token_budget": 128, "packs_per_step": 1},
        "optimizer": {"lr": 1e-2, "warmup_steps": 0},
        "checkpoint__every": 10,
    }
    return config(**settings | QUIET)


@torch.no_grad()
def loss_of(model: Denoiser, manifest: Manifest, row: int) -> float:
    """Of a clip under its caption, at some timesteps, always with the same noise."""
    sample, objective = (
        reference_sample(ClipReader(manifest, model.config.patch), row, model.config),
        FlowConfig().build(),
    )
    batch = pack([noised(sample, t, "test", t) for t in (0.2, 0.4, 0.6, 0.8)], model.config.patch, model.text_dim)
    return objective.token_losses(model, batch).mean().item()


def test_the_clip_is_learned_by_what_the_paper_trains_and_a_stop_changes_nothing(
    dataset: str, base: Path, tmp_path: Path
):
    manifest = read_datasets(dataset, split="train", data=DataConfig(), model=DiTConfig())
    rows = [manifest.row(i) for i in range(len(manifest))]
    row = next(i for i, row in enumerate(rows) if row["latent_t"] > 2 and row["text_shard"])
    clip, whole, parts = rows[row]["clip_id"], tmp_path / "whole", tmp_path / "parts"
    settings = tuned(base, clip)
    train(settings, dataset, whole)
    losses = [row["loss"] for row in logged(whole) if "loss" in row]
    untrained = build_model(settings, read_run(whole)[1])
    adapt_base(untrained, settings, base)
    first, last = (loss_of(model, manifest, row) for model in (untrained, load_model(whole, weights="model")[0]))
    assert len(losses) == 24 and last < 0.95 * first

    model, _, _ = load_model(whole, weights="model")
    before, after = Denoiser.from_pretrained(base).state_dict(), model.state_dict()
    changed = {name for name in after if name not in before or not torch.equal(before[name], after[name])}
    own = {name for name in changed if ".to_q." in name or ".self_attentions.1." in name}
    # (All tokens of a caption are equal here, so cross-attention is the same for every query.)
    assert {name for name in after if "self_attentions.0.to_q." in name or ".self_attentions.1." in name} == own
    # Adaptive norms of the second mixer are rows of a matrix that the first model has without them.
    others = {name.partition(".modulation.")[0] for name in changed - own}
    is_image_model = not any(".self_attentions.1." in name for name in before)
    assert others == ({"blocks.0", "blocks.1"} if is_image_model else set())

    with pytest.raises(Stopped):
        train(tuned(base, clip), dataset, parts, on_step=stop_after(13))
    train(tuned(base, clip), dataset, parts)
    assert [row["loss"] for row in logged(parts) if "loss" in row][-1] == losses[-1]
    resumed = load_model(parts, weights="model")[0].state_dict()
    assert all(torch.equal(after[name], resumed[name]) for name in after)


def test_clips_are_chosen_by_the_beginnings_of_their_ids(dataset: str):
    ids = clips_of(dataset)
    assert clips_of(dataset, ids[3][:12], ids[1]) == [ids[1], ids[3]]
    assert clips_of(dataset, ids[3], split="val") == clips_of(dataset, split="val"), "held-out clips stay"
    for name, count in (("", len(ids)), ("none", 0), (clips_of(dataset, split="val")[0], 0)):
        with pytest.raises(ValueError, match=f"train.data.clips: {name} is the beginning of {count} ids of the 20"):
            clips_of(dataset, name)
