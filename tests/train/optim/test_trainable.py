"""A model whose base is frozen: only what is trained is optimized, averaged, saved and counted."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint import FileSystemReader

import train.loop
import train.run.folder
from tests.train.test_loop import config, logged
from train.estimate.memory import STATE_BYTES, estimate_memory
from train.model.dit import DiT
from train.optim.ema import EMA
from train.optim.optimizer import build_optimizer
from train.optim.trainable import trainable_parameters
from train.run.config import EMAConfig, OptimizerConfig
from train.run.folder import load_model


def freeze_first_block(model: DiT) -> DiT:
    model.blocks[0].requires_grad_(False)
    return model


@pytest.fixture
def frozen_base(monkeypatch: pytest.MonkeyPatch) -> None:
    build = train.run.folder.build_model
    for module in (train.loop, train.run.folder):
        monkeypatch.setattr(module, "build_model", lambda *given: freeze_first_block(build(*given)))


def in_checkpoint(out: Path, step: int, part: str) -> set[str]:
    names = FileSystemReader(out / f"checkpoints/step-{step:06d}").read_metadata().state_dict_metadata
    return {name.removeprefix(f"{part}.") for name in names if name.startswith(f"{part}.")}


def test_a_run_with_a_frozen_base_saves_what_it_trains_and_resumes_bitwise(
    dataset: str, tmp_path: Path, frozen_base: None
):
    settings = {"checkpoint__every": 2, "evaluate__held_out__first": 0, "evaluate__held_out__every": 100}
    for steps in (2, 4):
        train.loop.train(config(steps=steps, optimizer__schedule="constant", **settings), dataset, tmp_path / "parts")
    train.loop.train(config(steps=4, optimizer__schedule="constant", **settings), dataset, tmp_path / "whole")
    assert [row["loss"] for row in logged(tmp_path / "parts") if "loss" in row] == [
        row["loss"] for row in logged(tmp_path / "whole") if "loss" in row
    ]
    model, run_config, record = load_model(tmp_path / "whole", weights="model")
    first = train.run.folder.build_model(run_config, record)
    trained = set(trainable_parameters(first))
    assert 0 < len(trained) < len(list(first.parameters()))
    assert in_checkpoint(tmp_path / "whole", 4, "model") == trained
    assert in_checkpoint(tmp_path / "whole", 4, "ema") == trained
    moments = {
        n.removesuffix(".exp_avg").removeprefix("state.") for n in in_checkpoint(tmp_path / "whole", 4, "optimizer")
    }
    assert trained <= moments and not any("blocks.0." in name for name in moments)
    before = first.state_dict()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed <= trained and any(name.startswith("blocks.1.") for name in changed)


def test_the_optimizer_and_the_average_leave_frozen_parameters_alone():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    optimizer = build_optimizer(model, OptimizerConfig())
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == {
        id(p) for p in model[1].parameters()
    }
    ema = EMA(model, EMAConfig(decay=0.0))
    assert set(ema.average) == {"1.weight", "1.bias"}
    with torch.no_grad():
        model[1].weight.fill_(7.0)
        model[0].weight.fill_(5.0)
    with ema.applied_to(model):
        assert (model[0].weight == 5).all() and not (model[1].weight == 7).any()
    assert (model[1].weight == 7).all()


def test_a_frozen_parameter_takes_no_more_memory_than_its_weight():
    settings = config()
    model = DiT(settings.model, channels=4, text_dim=12)
    whole = estimate_memory(settings, model, 64, 1, torch.float32)
    part = estimate_memory(settings, freeze_first_block(model), 64, 1, torch.float32)
    num_frozen = sum(p.numel() for p in model.blocks[0].parameters())
    weight, moments = 4, 8
    assert whole.state_bytes - part.state_bytes == (STATE_BYTES + moments - weight) * num_frozen
    assert part.num_parameters == whole.num_parameters


def test_a_model_with_nothing_to_train_is_refused():
    with pytest.raises(ValueError, match="leave at least one to train"):
        trainable_parameters(nn.Linear(1, 1).requires_grad_(False))
