"""A codebook of which hardly a code is used is told with the figure."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.train.autoencoder.training.test_loop import Squares, config, run
from train.autoencoder.training.clips import Clip
from train.autoencoder.training.collapse import PERIOD, CollapseWatch, used_share


def rows(usages: list[float], limit: float = 1.0) -> list[dict[str, Any]]:
    return [
        {"step": n, "code_usage": usage, "code_usage_limit": limit, "commitment": 0.1}
        for n, usage in enumerate(usages, 1)
    ]


def test_a_small_batch_cannot_use_a_large_codebook() -> None:
    assert used_share(rows([0.02, 0.04], limit=0.05)) == pytest.approx(0.6)
    assert used_share([{"step": 1, "loss": 0.5}]) is None
    fixed = [{"step": 1, "code_usage": 0.01, "code_usage_limit": 1.0}]  # of FSQ: nothing of it is learned
    assert used_share(fixed) is None


def test_it_warns_when_a_codebook_collapses_and_again_after_it_recovered(caplog: pytest.LogCaptureFixture) -> None:
    watch = CollapseWatch()
    for row in rows([0.5] * PERIOD + [0.02] * 2 * PERIOD + [0.5] * PERIOD + [0.02] * PERIOD):
        watch.see(row)
    told = [record.getMessage() for record in caplog.records]
    assert [text.split(":")[0] for text in told] == [f"step {2 * PERIOD}", f"step {5 * PERIOD}"]
    assert "used 2.0 % of the codes" in told[0] and "revive_below" in told[0]


@pytest.mark.parametrize(("usage", "is_told"), [(0.11, False), (0.09, True)])
def test_less_than_a_tenth_of_the_codes_is_a_collapse(
    usage: float, is_told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    watch = CollapseWatch()
    for row in rows([usage] * PERIOD):
        watch.see(row)
    assert bool(caplog.records) == is_told


def test_a_run_on_black_frames_is_warned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def black(self: Squares, clip: Clip, start: int, num_frames: int, short_side_px: int) -> np.ndarray:
        return np.zeros((num_frames, 24, 32, 3), np.uint8)

    monkeypatch.setattr(Squares, "read", black)
    with caplog.at_level(logging.WARNING):
        run(tmp_path, config("vq", steps=PERIOD, clips={**config().clips.model_dump(), "lengths": [1]}))
    assert "of the codes that they could" in caplog.text
