"""Stored captions under other settings of the checks: which of them are judged, by what, and when."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from caption.backends.transformers_vlm import TransformersVlmConfig
from caption.config import CaptionConfig
from caption.facts import NOTHING_MEASURED
from caption.provenance import Provenance
from caption.quality.base import Check, Evidence
from caption.quality.config import ChecksConfig
from caption.record import CaptionRecord, Finding, record_row
from curate.dataset.captions import CaptionLevel, CaptionStatus
from curate.dataset.dataset import Dataset
from pipelines.steps.recheck import recheck
from tests.support.caption_checks import WITHOUT_SENTENCES

FIELDS = '{"subjects": ["a red car"]}'


class Seen(Check):
    """Notes what it is shown, and rejects every text that it has not seen with these fields."""

    remedies: ClassVar = {"no_car": ()}

    def __init__(self) -> None:
        self.shown: list[tuple[str, str | None]] = []

    def of_caption(self, record: CaptionRecord, evidence: Evidence) -> Iterator[Finding]:
        self.shown.append((record.text, evidence.fields))
        if evidence.fields is None:
            yield Finding(code="no_car", status=CaptionStatus.REJECTED, detail="no fields")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    check = Seen()
    monkeypatch.setattr(ChecksConfig, "build", lambda config: (check,))
    return check


def record(text: str, level: CaptionLevel, **changes: Any) -> CaptionRecord:
    provenance = Provenance(backend="test", model="test", revision="1", fingerprint="test")
    texts = {"clip_id": "c", "media_digest": None, "level": level, "text": text, "finish_reason": "stop"}
    prompt = {"prompt_id": "p", "prompt_hash": "p", "prompt_text": "p", "frame_indices": (), "frame_times_s": ()}
    numbers = {"max_tokens": 8, "num_prompt_tokens": 1, "num_output_tokens": 1, "attempt": 1}
    return CaptionRecord(**{**texts, **prompt, **numbers, "provenance": provenance, **changes})


def judged(
    tmp_path: Path, records: Sequence[CaptionRecord], monkeypatch: pytest.MonkeyPatch, checks: ChecksConfig
) -> tuple[bool, dict[str, list[str]]]:
    """Whether a record changed, and the codes of each text."""
    monkeypatch.setattr(TransformersVlmConfig, "build", lambda config: SimpleNamespace(provenance=PROVENANCE))
    settings = CaptionConfig(backend=TransformersVlmConfig(model="test"), prompts="fields-v1", checks=checks)
    dataset = Dataset(str(tmp_path))
    assert settings.family is not None
    table = dataset.captions(settings.family)
    if not table.part_names():
        table.publish(map(record_row, records))
    is_changed = recheck(dataset, settings, table.read(), lambda: ({"c": NOTHING_MEASURED}, {}))
    found = dataset.captions(settings.family).rows()
    return is_changed, {row["text"]: [finding["code"] for finding in row["findings"]] for row in found}


PROVENANCE = Provenance(backend="test", model="test", revision="1", fingerprint="test")
LOOSE, STRICT = WITHOUT_SENTENCES, WITHOUT_SENTENCES.model_copy(update={"length": ChecksConfig().length})


def test_texts_are_compared_with_the_clips_usable_fields(
    seen: Seen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [record(FIELDS, "fields"), record("A red car.", "dense")]
    assert judged(tmp_path, texts, monkeypatch, LOOSE) == (False, {FIELDS: [], "A red car.": []})
    assert seen.shown == [("A red car.", FIELDS)]


def test_fields_that_are_not_used_are_no_evidence(seen: Seen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = Finding(code="broken", status=CaptionStatus.REJECTED, detail="broken")
    texts = [record(FIELDS, "fields", findings=(refused,)), record("A red car.", "dense")]
    assert judged(tmp_path, texts, monkeypatch, LOOSE) == (True, {FIELDS: ["broken"], "A red car.": ["no_car"]})


def test_what_no_model_was_asked_for_is_not_judged(
    seen: Seen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blank = Finding(code="no_contrast", status=CaptionStatus.BLANK, detail="black")
    texts = [record("", "dense", finish_reason="not_asked", findings=(blank,))]
    assert judged(tmp_path, texts, monkeypatch, LOOSE) == (False, {"": ["no_contrast"]})
    assert not seen.shown


def test_the_same_settings_look_at_no_text_again(seen: Seen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [record("A red car.", "dense")]
    assert judged(tmp_path, texts, monkeypatch, LOOSE)[0]
    assert not judged(tmp_path, texts, monkeypatch, LOOSE)[0]
    assert len(seen.shown) == 1
    assert not judged(tmp_path, texts, monkeypatch, STRICT)[0]
    assert len(seen.shown) == 2, "others are judged, with the same result"
