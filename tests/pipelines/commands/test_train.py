"""The table of a training: what is measured twice has an arrow, what is measured once has none."""

import pytest

from pipelines.commands.train import show
from train.monitor.metrics import TrainSummary


def test_what_did_not_change_is_one_number(capsys: pytest.CaptureFixture[str]) -> None:
    show(
        TrainSummary(
            steps=2, num_parameters=1, train_clips=1, val_clips=1, train_loss_first=2.0, train_loss_last=1.0,
            evaluated_first={"val_loss": 1.5, "caption_clips": 51},
            evaluated_last={"val_loss": 1.25, "caption_clips": 51},
            tokens=1, samples=1, token_efficiency=1.0, tokens_per_s=1.0, mfu=None, rank_idle=None, loader_wait=0.0,
            checkpoint_stall_s=0.0, memory_gib=1.0, skipped_steps=0, checkpoint="c",
        )
    )  # fmt: skip
    said = {line.rsplit("  ", 1)[0].strip(): line.rsplit("  ", 1)[1] for line in capsys.readouterr().out.splitlines()}
    assert said["val loss"] == "1.5000 → 1.2500" and said["caption clips"] == "51"
