"""The family of checks: what all members keep, how findings become a status, and that a member is one file and one
line."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from caption.llava.domain import DomainCheck
from caption.quality.base import Check, Evidence
from caption.quality.config import ChecksConfig
from caption.quality.language import LanguageConfig
from caption.quality.length import LengthConfig
from caption.record import CaptionRecord, Finding, Remedy, status_of
from curate.dataset.captions import USABLE, CaptionStatus
from tests.caption.quality.contract import BLOCKS, GOOD, check_member
from tests.support.contributing import family_with_example

ROOT = Path(__file__).parents[3]


def findings(settings: ChecksConfig, record: CaptionRecord) -> tuple[Finding, ...]:
    checks = settings.build()
    for check in checks:
        check.setup()
    return tuple(one for check in checks for one in check.of_caption(record, Evidence(frames=BLOCKS)))


@pytest.mark.parametrize("name", ChecksConfig.model_fields)
def test_every_check_keeps_the_contract(name: str) -> None:
    check_member(getattr(ChecksConfig(), name))


def test_the_example_of_the_page_is_a_check(monkeypatch: pytest.MonkeyPatch) -> None:
    config = family_with_example("A caption check", monkeypatch)
    added = config.ChecksConfig.model_fields.keys() - ChecksConfig.model_fields.keys()
    assert added == {"all_capitals"}
    settings = config.ChecksConfig()
    check_member(settings.all_capitals)
    shouted = replace(GOOD, text=GOOD.text.upper())
    found = findings(settings, shouted)
    assert [finding.code for finding in found] == ["all_capitals"]
    assert status_of(tuple(found)) not in USABLE
    assert not findings(config.ChecksConfig(all_capitals=None), shouted)


def test_the_worst_finding_gives_the_status() -> None:
    found = [Finding(code="x", status=status, detail="x") for status in CaptionStatus]
    assert status_of(()) == status_of(tuple(found[:1])) == CaptionStatus.OK
    assert status_of(tuple(found)) == status_of(tuple(found[::-1])) == CaptionStatus.BLANK
    assert status_of((found[1], found[2])) == CaptionStatus.REJECTED


def test_a_caption_can_have_several_findings() -> None:
    record = replace(GOOD, text="", finish_reason="length")
    found = findings(ChecksConfig(), record)
    assert [finding.code for finding in found] == ["empty", "truncated"]
    assert replace(record, findings=found).status == CaptionStatus.EMPTY


def test_the_page_has_every_code_with_its_remedies() -> None:
    page = (ROOT / "docs" / "captioning.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([\w, –]+) \|", page, re.MULTILINE)
    told = {code: tuple(Remedy(name) for name in remedies.split(", ") if name != "–") for code, _, remedies in rows}
    assert told == {code: remedies for check in every_check() for code, remedies in check.remedies.items()}
    reads = {code: reads for code, reads, _ in rows}
    assert reads == {code: check.reads for check in every_check() for code in check.remedies}


def every_check() -> tuple[Check | type[Check], ...]:
    return (*ChecksConfig().build(), DomainCheck)


def test_docstrings_name_the_codes() -> None:
    for check in every_check():
        kind = check if isinstance(check, type) else type(check)
        assert kind is DomainCheck or all(f"`{code}`" in (kind.__doc__ or "") for code in kind.remedies), kind


def test_checks_of_frames_can_be_told_apart() -> None:
    settings = ChecksConfig().of_frames()
    kept = {name for name in ChecksConfig.model_fields if getattr(settings, name) is not None}
    assert kept == {"visible", "match"}


def test_a_second_attempt_of_a_refusal_goes_to_the_second_model() -> None:
    refused = replace(GOOD, text="I cannot describe this video.")
    first, second = (findings(ChecksConfig(), replace(refused, attempt=attempt))[0] for attempt in (1, 2))
    assert (first.code, first.remedy, second.remedy) == ("refusal", Remedy.PROMPT, Remedy.BACKEND)


def test_a_language_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="got 'xx'; expected one of"):
        LanguageConfig(language="xx").build().setup()


def test_lengths_out_of_order_are_refused() -> None:
    with pytest.raises(ValidationError, match="short_min_words=9"):
        LengthConfig(short_min_words=9, short_max_words=3)
