"""A run of clips beyond a rank's budget: trained by ranks that share packs, killed, and resumed bitwise."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.forks import run_ranks
from train.loop import train
from train.monitor.metrics import MEASURED, read_metrics
from train.run.config import TrainConfig
from train.run.folder import load_model

BUDGET = 64
"""Of a pack: the largest clip has as many tokens."""


def config(token_budget: int = BUDGET, **parallel: Any) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "steps": 5,
            "model": {"width": 48, "depth": 2, "num_heads": 2},
            "data": {"plan": {"token_budget": token_budget, "packs_per_step": 1, "oversize": "refuse"}},
            "optimizer": {"lr": 0.003, "warmup_steps": 2},
            "checkpoint": {"every": 2},
            "evaluate": {"held_out": {"every": 5, "first": 0}},
            "parallel": parallel,
        }
    )


def train_until_killed(settings: TrainConfig, dataset: str, out: Path) -> None:
    def on_step(row: dict[str, Any]) -> None:
        if row["step"] == 4:
            os.kill(os.getpid(), signal.SIGKILL)

    train(settings, dataset, out, on_step=on_step)


def rows(run: Path) -> list[dict[str, Any]]:
    return [{name: row[name] for name in row.keys() - MEASURED} for row in read_metrics(run / "metrics.jsonl")]


@pytest.mark.slow
def test_clips_beyond_a_ranks_budget_are_trained_on_and_a_killed_run_goes_on_bitwise(dataset: str, tmp_path: Path):
    with pytest.raises(ValueError, match=rf"has {BUDGET} tokens .*above the budget of {BUDGET // 2}"):
        train(config(BUDGET // 2), dataset, tmp_path / "refused")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert [one.code for one in run_ranks(2, config(context=2), dataset, whole)] == [0, 0]
    codes = [one.code for one in run_ranks(2, config(context=2), dataset, killed, entry=train_until_killed)]
    assert -signal.SIGKILL in codes and 0 not in codes
    resumed = run_ranks(2, config(context=2), dataset, killed)
    assert [one.code for one in resumed] == [0, 0]
    assert rows(killed) == rows(whole)
    weights, expected = (load_model(run)[0].state_dict() for run in (killed, whole))
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    alone = tmp_path / "alone"
    train(config(), dataset, alone)
    for one, two in zip(rows(alone), rows(whole), strict=True):
        assert one.get("loss", one.get("val_loss")) == pytest.approx(two.get("loss", two.get("val_loss")), rel=1e-4)
