"""The gate of `benchmarks.caption_quality grounding`: one that ignores its clips fails, one that looks passes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from caption.backends.base import CaptionRequest
from caption.backends.transformers_vlm import TransformersVlm, TransformersVlmConfig
from tests.support.caption_grounding import Shown, blind, measure

LUMA = range(40, 240, 25)
CLIPS = [
    Shown(frames=np.full((2, 28, 28, 3), luma, np.uint8), caption=f"luma {luma}", subject=str(luma)) for luma in LUMA
]


def reads_luma(requests: Sequence[CaptionRequest], texts: Sequence[str]) -> list[float]:
    """The loss of a captioner that knows the brightness of what it is shown."""
    return [
        abs(float(one.frames.mean()) - int(text.split()[1])) / 100 for one, text in zip(requests, texts, strict=True)
    ]


def test_a_captioner_that_looks_passes() -> None:
    found = measure(reads_luma, CLIPS, "What?", batch_size=3)
    assert found.looks
    assert found.gaps["frozen"].max() == 0, "these clips do not move"


def test_the_same_captioner_fails_when_it_is_shown_nothing() -> None:
    found = measure(blind(reads_luma), CLIPS, "What?")
    assert not found.looks and all(not gaps.any() for gaps in found.gaps.values())


def test_a_model_of_random_weights_fails(tiny_vlm: Path) -> None:
    vlm = TransformersVlm(TransformersVlmConfig(model=str(tiny_vlm), dtype="float32", device="cpu"))
    vlm.setup()
    found = measure(vlm.losses, CLIPS, "Describe this video briefly.")
    assert not found.looks, found.table()


def test_clips_of_one_subject_are_refused() -> None:
    with pytest.raises(ValueError, match="one subject"):
        measure(reads_luma, CLIPS[:1], "What?")
