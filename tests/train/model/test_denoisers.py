"""What every denoiser keeps to, and one that is added by its files and one line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

import train.model.config as config_module
from tests.support.families import members, with_member
from train.distributed.parallelize import parallelize
from train.distributed.ranks import RankGrid
from train.model.base import Denoiser
from train.model.config import ModelConfig
from train.objective.flow_config import FlowConfig
from train.packing.batch import PackedBatch, Sample, pack
from train.run.config import ParallelConfig, TrainConfig
from train.sampling.config import SampleConfig
from train.sampling.generate import generate

CHANNELS, TEXT_DIM = 4, 12
CPU = torch.device("cpu")
SMALL: dict[str, dict[str, Any]] = {
    "dit": {"width": 32, "depth": 2, "num_heads": 2},
    "unet": {
        "width": 16,
        "multipliers": (1, 2),
        "depths": (1, 1),
        "attention_levels": (1,),
        "head_width": 8,
        "num_groups": 4,
        "condition_width": 24,
        "patch": (1, 2, 2),
    },
    "token_mlp": {},
}
"""Settings of a small model of each kind."""

EXTENDED: Any = with_member(
    config_module, "tests.support.members.token_mlp_config", "TokenMLPConfig", after="DiTConfig"
).ModelConfig

every_denoiser = pytest.mark.parametrize("kind", [one.model_fields["kind"].default for one in members(EXTENDED)])


@pytest.fixture(autouse=True)
def _one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.model.base.ModelConfig", EXTENDED)


def built(kind: str) -> Denoiser:
    """A small model in which no weight is zero."""
    model: Denoiser = (
        TypeAdapter(EXTENDED)
        .validate_python({"kind": kind, **SMALL[kind]})
        .build(channels=CHANNELS, text_dim=TEXT_DIM)
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def packed(model: Denoiser, samples: list[Sample]) -> PackedBatch:
    return model.config.prepare(pack(samples, model.config.patch, TEXT_DIM, model.config.conditions))


def output(model: Denoiser, samples: list[Sample]) -> list[Tensor]:
    """(n, P) of each sample, from one pack."""
    batch = packed(model, samples)
    with torch.no_grad():
        return list(model(batch.tokens, batch.timesteps, batch).split(batch.segments.lengths))


def test_the_family_has_one_more_member_by_one_line() -> None:
    assert len(members(EXTENDED)) == len(members(ModelConfig)) + 1


@every_denoiser
def test_a_sample_of_a_pack_gets_what_it_gets_alone(kind: str, samples: list[Sample]) -> None:
    model = built(kind)
    for together, sample in zip(output(model, samples), samples, strict=True):
        torch.testing.assert_close(together, output(model, [sample])[0], atol=1e-5, rtol=1e-4)
        assert together.std() > 0.01


@every_denoiser
def test_features_of_a_block_are_one_row_per_token(kind: str, samples: list[Sample]) -> None:
    model = built(kind)
    batch = packed(model, samples)
    out, features = model(batch.tokens, batch.timesteps, batch, features_of=0)
    assert out.shape == batch.tokens.shape
    assert features.shape == (batch.segments.num_tokens, model.config.feature_dim(0))


@every_denoiser
def test_flops_are_positive_and_add_up_over_segments(kind: str, samples: list[Sample]) -> None:
    model = built(kind)
    alone = [model.flops(packed(model, [sample])) for sample in samples]
    assert min(alone) > 0 and model.flops(packed(model, samples)) == sum(alone)


@every_denoiser
def test_memory_is_positive_and_less_with_checkpointed_blocks(kind: str) -> None:
    model, losses = built(kind), FlowConfig().build().token_losses
    kept, checkpointed = (model.activation_bytes(256, torch.float32, losses, every) for every in (0, 1))
    assert 0 < checkpointed < kept
    assert model.workspace_bytes(256, torch.float32) > 0


@every_denoiser
def test_a_saved_model_is_the_same_when_it_is_loaded(kind: str, tmp_path: Path, samples: list[Sample]) -> None:
    model = built(kind)
    model.save_pretrained(tmp_path)
    loaded = Denoiser.from_pretrained(tmp_path)
    assert type(loaded) is type(model) and loaded.config == model.config
    for one, other in zip(output(model, samples), output(loaded, samples), strict=True):
        assert torch.equal(one, other)


@every_denoiser
def test_it_is_sampled(kind: str, samples: list[Sample]) -> None:
    model, settings = built(kind), SampleConfig(num_steps=2, guidance=1)
    made = generate(model, samples[:2], FlowConfig().build(), settings, model.config, TEXT_DIM, CPU)
    for latent, sample in zip(made, samples, strict=False):
        assert latent.shape == sample.latent.shape and latent.isfinite().all()
        assert not torch.isclose(latent, sample.noise).all()


@every_denoiser
def test_its_blocks_hold_most_weights_and_are_checkpointed(kind: str, samples: list[Sample]) -> None:
    model = built(kind)
    assert len(model.blocks) == model.config.num_blocks
    in_blocks, all_weights = (sum(p.numel() for p in one.parameters()) for one in (model.blocks, model))
    assert in_blocks > all_weights / 2
    before = output(model, samples)
    parallelize(model, RankGrid(rank=0, world_size=1, device=CPU), ParallelConfig(activation_checkpoint_every=1))
    batch = packed(model, samples)
    out = model(batch.tokens, batch.timesteps, batch)
    out.square().mean().backward()
    torch.testing.assert_close(out.detach(), torch.cat(before))
    assert all(parameter.grad is not None for parameter in model.blocks.parameters())


@every_denoiser
def test_its_blocks_are_compiled_and_sharded_one_by_one(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled, sharded, model = list[Any](), list[Any](), built(kind)
    monkeypatch.setattr(torch, "compile", lambda forward, **_: compiled.append(forward.__self__) or forward)
    monkeypatch.setattr(
        "train.distributed.parallelize.fully_shard", lambda module, **_: sharded.append(module) or module
    )
    monkeypatch.setattr("train.distributed.parallelize._set_up_compiler", lambda: None)  # it changes the process
    monkeypatch.setattr("train.distributed.parallelize.init_device_mesh", lambda *_, **__: None)
    ranks = RankGrid(rank=0, world_size=2, device=CPU)
    parallelize(model, ranks, ParallelConfig(mode="fsdp", compile=True))
    assert compiled == list(model.blocks) and sharded == [*model.blocks, model]


def test_dit_is_the_kind_of_settings_and_of_exported_models_that_name_none(tmp_path: Path) -> None:
    for family in (ModelConfig, EXTENDED):
        assert TypeAdapter(family).validate_python({"width": 48}).kind == "dit"
    assert TrainConfig.model_validate({"model": {"width": 48}}).model.kind == "dit"
    built("dit").save_pretrained(tmp_path)
    entries = json.loads((tmp_path / "config.json").read_text())
    del entries["model"]["kind"]
    (tmp_path / "config.json").write_text(json.dumps(entries))
    assert Denoiser.from_pretrained(tmp_path).config.kind == "dit"


def test_another_kind_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValidationError, match=r"'gan' found using 'kind'.*'dit', 'unet'"):
        TypeAdapter(ModelConfig).validate_python({"kind": "gan"})
    with pytest.raises(ValidationError, match="'dit', 'token_mlp', 'unet'"):
        TypeAdapter(EXTENDED).validate_python({"kind": "gan"})
