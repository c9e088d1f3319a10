"""The family of checks: what all members keep, how findings become a status, and that a member is one file and one
line."""

from dataclasses import replace

import pytest

from caption.quality.base import Evidence
from caption.quality.config import ChecksConfig
from caption.record import Finding, status_of
from curate.dataset.captions import USABLE, CaptionStatus
from tests.caption.quality.contract import BLOCKS, GOOD, check_member
from tests.support.contributing import family_with_example


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
    found = [one for check in settings.build() for one in check.of_caption(shouted, Evidence(frames=BLOCKS))]
    assert [finding.code for finding in found] == ["all_capitals"]
    assert status_of(tuple(found)) not in USABLE
    assert not [
        one
        for check in config.ChecksConfig(all_capitals=None).build()
        for one in check.of_caption(shouted, Evidence(frames=BLOCKS))
    ]


def test_the_worst_finding_gives_the_status() -> None:
    found = [Finding(code="x", status=status, detail="x") for status in CaptionStatus]
    assert status_of(()) == status_of(tuple(found[:1])) == CaptionStatus.OK
    assert status_of(tuple(found)) == status_of(tuple(found[::-1])) == CaptionStatus.BLANK
    assert status_of((found[1], found[2])) == CaptionStatus.REJECTED


def test_a_caption_can_have_several_findings() -> None:
    record = replace(GOOD, text="", finish_reason="length")
    found = tuple(one for check in ChecksConfig().build() for one in check.of_caption(record, Evidence(frames=BLOCKS)))
    assert [finding.code for finding in found] == ["empty", "truncated"]
    assert replace(record, findings=found).status == CaptionStatus.EMPTY
