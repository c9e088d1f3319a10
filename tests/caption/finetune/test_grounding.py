"""A captioner that looks, and one that does not, as models with given losses."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from caption.finetune.base import Sample
from caption.finetune.config import StageConfig
from caption.finetune.grounding import chance, measure

STAGE = StageConfig(name="one", lr={"projector": 1e-3}, tasks={"short": 1}, steps=1, batch_size=3)


def clips(number: int, answers: int) -> Any:
    samples = [
        Sample(images=np.full((1, 2, 2, 3), 10 + row, np.uint8), prompt="?", answer=f"{row % answers}")
        for row in range(number)
    ]
    return SimpleNamespace(held_out=lambda task, limit: samples[:limit], load=list)


class Captioner:
    """Its loss is 1, and 3 with frames that are not of the answer, if it looks at them."""

    def __init__(self, answers: int, looks: bool) -> None:
        self.answers, self.looks = answers, looks

    def train(self, parts: Sequence[str]) -> None: ...

    def losses(self, samples: Sequence[Sample]) -> tuple[torch.Tensor, torch.Tensor]:
        own = [int(one.images.max()) >= 10 and (int(one.images.max()) - 10) % self.answers == int(one.answer)
               for one in samples]  # fmt: skip
        losses = [1.0 if is_own or not self.looks else 3.0 for is_own in own]
        rows = torch.arange(len(samples)).repeat_interleave(2)
        return torch.tensor(losses).repeat_interleave(2), rows


@pytest.mark.parametrize("looks", [True, False])
def test_a_captioner_that_ignores_the_clips_has_no_gap(looks: bool) -> None:
    (found,) = measure(Captioner(3, looks), clips(10, 3), STAGE, 8)  # type: ignore[arg-type]
    assert (found.num, found.loss) == (8, 1.0)
    assert found.gap_other == found.gap_black == (2.0 if looks else 0.0)
    assert found.wins == (8 if looks else 0) and found.looks is looks


def test_clips_with_one_answer_have_no_other_clip() -> None:
    (found,) = measure(Captioner(1, True), clips(8, 1), STAGE, 8)  # type: ignore[arg-type]
    assert found.gap_other is None and found.looks is None and found.gap_black == 2.0


def test_too_few_clips_tell_nothing() -> None:
    (found,) = measure(Captioner(3, True), clips(4, 3), STAGE, 8)  # type: ignore[arg-type]
    assert found.looks is None


def test_the_sign_test_is_that_of_a_fair_coin(tmp_path: Path) -> None:
    assert chance(5, 10) == 1.0
    assert chance(6, 6) == chance(0, 6) == pytest.approx(2 / 64)


def test_a_gap_that_changes_no_caption_is_no_grounding() -> None:
    class Faint(Captioner):
        def losses(self, samples: Sequence[Sample]) -> tuple[torch.Tensor, torch.Tensor]:
            losses, rows = super().losses(samples)
            return 1 + (losses - 1) / 100, rows

    (found,) = measure(Faint(3, True), clips(30, 3), STAGE, 30)  # type: ignore[arg-type]
    assert found.wins == found.num_compared == 30 and found.looks is False
