from pathlib import Path

import pytest

from tests.train.test_loop import config
from train.estimate.forecast import forecast
from train.loop import train
from train.monitor.metrics import read_metrics


def test_the_forecast_is_what_the_run_then_does(dataset: str, tmp_path: Path):
    settings = config(
        steps=40, data__plan__packs_per_step=2, evaluate__held_out__first=0, evaluate__held_out__every=100
    )
    planned = forecast(settings, dataset, num_ranks=2)
    summary = train(settings, dataset, tmp_path)
    first_epoch = [row for row in read_metrics(tmp_path / "metrics.jsonl") if "loss" in row][: planned.num_steps]
    assert {row["epoch"] for row in first_epoch} == {0}
    assert sum(row["samples"] for row in first_epoch) == pytest.approx(planned.num_seen, abs=20)
    assert planned.num_parameters == summary.num_parameters
    assert planned.num_clips == planned.num_seen == summary.train_clips
    assert planned.num_tokens / (planned.num_packs * 128) == pytest.approx(planned.token_efficiency)


def test_what_exceeds_the_budget_is_told(dataset: str):
    own = forecast(config(data__plan__token_budget=12), dataset)
    assert own.num_oversize > 0 and own.num_cut == 0
    cut = forecast(config(data__plan__token_budget=12, data__plan__oversize="crop"), dataset)
    assert cut.num_cut > 0 and cut.num_tokens < own.num_tokens
    with pytest.raises(ValueError, match="samples are above the budget of 12"):
        forecast(config(data__plan__token_budget=12, data__plan__oversize="refuse"), dataset)


def test_shards_share_the_state_and_recomputed_blocks_keep_less(dataset: str):
    whole = forecast(config(), dataset, num_ranks=2)
    sharded = forecast(config(parallel__mode="fsdp", parallel__activation_checkpoint_every=1), dataset, num_ranks=2)
    assert sharded.state_bytes == whole.state_bytes // 2
    assert sharded.activation_bytes < whole.activation_bytes
