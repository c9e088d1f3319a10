"""What every evaluator keeps to, and that the loop calls one that it does not know."""

import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from pydantic import BaseModel, ValidationError
from rich.console import Console

import pipelines.commands.train
from curate.report.training import training
from tests.support.families import with_field
from tests.train.test_loop import config, logged
from train.data.mix import read_datasets
from train.distributed.ranks import RankGrid
from train.evaluate import config as family
from train.evaluate.base import EvaluationContext, build_evaluators
from train.evaluate.config import EvaluateConfig
from train.loop import train
from train.model.dit import DiT
from train.monitor.metrics import TrainSummary
from train.optim.ema import EMA
from train.run.config import EMAConfig, TrainConfig

Extended: type[EvaluateConfig] = with_field(
    family,
    "tests.support.members.weight_norm",
    "WeightNormConfig",
    "weight_norm: WeightNormConfig = WeightNormConfig()",
    after="quality: QualityConfig = QualityConfig()",
).EvaluateConfig
OF_PIXELS = ("samples", "quality")  # they need an autoencoder: test_samples.py, quality/test_evaluator.py
MEMBERS = [name for name in Extended.model_fields if name not in OF_PIXELS]


def settings(name: str) -> BaseModel:
    return Extended.model_fields[name].default


@pytest.mark.parametrize("name", Extended.model_fields)
def test_the_last_step_is_due_unless_the_evaluator_is_off(name: str):
    on = settings(name).model_copy(update={"every": 5})
    assert on.is_due(5, 12) and on.is_due(12, 12) and not on.is_due(7, 12)
    off = on.model_copy(update={"every": 0})
    assert not any(off.is_due(step, 12) for step in range(1, 13))


@pytest.mark.parametrize("name", MEMBERS)
def test_an_evaluator_returns_numbers_and_leaves_the_model_as_it_is(name: str, dataset: str, tmp_path: Path):
    run = config()
    train_set, val_set = (
        read_datasets(dataset, split=split, data=run.data, model=run.model) for split in ("train", "val")
    )
    context = EvaluationContext(
        train=train_set,
        val=val_set,
        objective=run.objective.build(),
        plan=run.data.plan,
        model=run.model,
        ranks=RankGrid(rank=0, world_size=1, device=torch.device("cpu")),
        out=tmp_path,
    )
    model = DiT(run.model, channels=4, text_dim=12)
    average, before = EMA(model, EMAConfig()), {k: v.clone() for k, v in model.state_dict().items()}
    evaluator = build_evaluators(Extended.model_validate({name: {"every": 1}}), context)[name]
    first = evaluator.evaluate(model, average, step=3)
    assert first.metrics and json.loads(json.dumps(first.metrics)) == first.metrics, "JSON holds it"
    assert evaluator.evaluate(model, average, step=3).metrics == first.metrics
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_an_evaluator_that_nothing_knows_is_logged_summed_up_and_shown(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    evaluate = Extended.model_validate({"held_out": {"every": 0}, "captions": {"every": 0}})
    summary = train(config(steps=4).model_copy(update={"evaluate": evaluate}), dataset, tmp_path)
    rows = [row for row in logged(tmp_path) if "weight_norm" in row]
    assert [row["step"] for row in rows] == [2, 4]
    assert summary.evaluated_first["weight_norm"] == rows[0]["weight_norm"]
    assert summary.evaluated_last["weight_norm"] == rows[1]["weight_norm"] != rows[0]["weight_norm"]
    shown = io.StringIO()
    monkeypatch.setattr(pipelines.commands.train, "out", Console(file=shown, width=200))
    pipelines.commands.train.show(summary)
    assert "weight norm ema" in shown.getvalue() and "weight norm by step" in shown.getvalue()
    assert "weight norm ema" in training(str(tmp_path))
    assert b"weight_norm" in next((tmp_path / "tensorboard").iterdir()).read_bytes()


def test_evaluators_that_are_called_in_different_steps_are_all_summed_up():
    step = {"loss": 1.0, "skipped": False, "tokens": 1, "samples": 1, "seconds": 1.0, "token_efficiency": 1.0}
    rows = [{"step": n, **step} for n in (1, 2, 3)]
    rows += [{"step": 1, "a": 1, "b": 5}, {"step": 2, "a": 2}, {"step": 3, "c": 9}]
    summary = TrainSummary.of(rows, num_parameters=1, train_clips=1, val_clips=1, checkpoint=SimpleNamespace())
    assert summary.evaluated_first == {"a": 1, "b": 5, "c": 9}
    assert summary.evaluated_last == {"a": 2, "b": 5, "c": 9}


def test_the_former_section_is_refused_with_the_new_keys():
    with pytest.raises(ValidationError, match=r"validation\.sample_every is now train\.evaluate\.samples\.every"):
        TrainConfig.model_validate({"validation": {"sample_every": 500}})
