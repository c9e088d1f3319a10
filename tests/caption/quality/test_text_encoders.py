"""Checks that need an encoder: overflow, and the text–clip score."""

from pathlib import Path

import numpy as np
import pytest

from caption.quality.match import MAX_WORDS, MatchCheck, MatchConfig, parts_of
from caption.quality.overflow import EncoderLimit, OverflowConfig
from caption.record import Remedy, finding_of, finding_row
from curate.dataset.captions import CaptionStatus
from curate.encoders.conse import ConseConfig
from curate.encoders.open_clip import OpenClipConfig
from tests.support.caption_faults import case
from tests.support.open_clip import write_tiny_open_clip

LIMIT = EncoderLimit(model="minilm-l6-v2", max_tokens=16)
TEXT = " ".join(["word"] * 30)


def test_a_text_beyond_the_encoder_is_told_how_many_words_fit() -> None:
    check = OverflowConfig(encoders=(LIMIT, LIMIT.model_copy(update={"max_tokens": 32}))).build()
    check.setup()
    one = case(None, TEXT)  # 30 tokens, and 2 special ones
    (finding,) = check.of_caption(one.record, one.evidence)
    assert finding.code == "overflow" and "32 > 16" in finding.detail
    assert finding.instruction == "Write at most 13 words."


def test_a_tokenizer_that_cannot_be_loaded_is_an_error_of_the_user(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = OverflowConfig(encoders=(EncoderLimit(model=str(tmp_path), max_tokens=8),)).build()
    with pytest.raises(ValueError, match=r"caption\.checks\.overflow\.encoders"):
        check.setup()


def test_no_sentence_is_cut_off() -> None:
    sentence = " ".join(f"word{number}" for number in range(2 * MAX_WORDS + 1)) + "."
    parts = parts_of(f"A short one. {sentence}")
    assert parts[0] == "A short one." and " ".join(parts[1:]) == sentence
    assert max(len(part.split()) for part in parts) <= MAX_WORDS


@pytest.fixture(scope="module")
def match() -> MatchCheck:
    check = MatchConfig(encoder=ConseConfig(), min=0.5).build()
    assert isinstance(check, MatchCheck)
    check.setup()
    return check


def test_the_score_is_the_mean_over_sentences(match: MatchCheck) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    one, other = match.score("A rabbit in a meadow.", frames), match.score("A page of text.", frames)
    both = match.score("A rabbit in a meadow. A page of text.", frames)
    assert both == pytest.approx((one + other) / 2, abs=1e-5)
    assert one != pytest.approx(other, abs=1e-3)


def test_a_low_score_asks_for_other_frames_then_for_the_second_model(match: MatchCheck) -> None:
    from dataclasses import replace

    frames = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    one = case(None, "A page of text.")
    evidence = replace(one.evidence, frames=frames)
    (first,) = match.of_caption(one.record, evidence)
    (second,) = match.of_caption(replace(one.record, attempt=2), evidence)
    assert first.status == second.status == CaptionStatus.REJECTED
    assert (first.remedy, second.remedy) == (Remedy.FRAMES, Remedy.BACKEND)
    assert first.value == match.score("A page of text.", frames), "the number is stored, not only said"
    assert finding_of(finding_row(first)).value == first.value


def test_an_open_clip_model_scores_captions_of_any_length(tmp_path: Path) -> None:
    encoder = OpenClipConfig(model=f"local-dir:{write_tiny_open_clip(tmp_path)}", device="cpu")
    check = MatchConfig(encoder=encoder).build()
    assert isinstance(check, MatchCheck)
    check.setup()
    frames = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), np.uint8)
    clip = check._encoder.embed_images(list(frames)).mean(0)
    short, other = "A rabbit sits.", "The sky is blue."
    one, two = (float(check._encoder.embed_texts([text])[0] @ clip / np.linalg.norm(clip)) for text in (short, other))
    assert check.score(short, frames) == pytest.approx(one, abs=1e-6)
    assert check.score(f"{short} {other}", frames) == pytest.approx((one + two) / 2, abs=1e-6)
    assert -1 <= check.score(f"{short} " * 200, frames) <= 1


def test_without_an_encoder_nothing_is_measured() -> None:
    one = case(None, TEXT)
    for check in (MatchConfig().build(), OverflowConfig().build()):
        check.setup()
        assert not list(check.of_caption(one.record, one.evidence))
