"""Level `fields`: texts that are not the JSON object that was asked for."""

from collections.abc import Iterator
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from caption.fields import salvage
from caption.quality.base import Check, Evidence, Remedies
from caption.record import CaptionRecord, Finding, Remedy
from curate.dataset.captions import CaptionStatus

INSTRUCTION = "Answer with one JSON object that has the keys named above, and nothing else."


class FieldsConfig(BaseModel):
    """Finds fields that cannot be read, and fields that can be read in part. The part that can is used."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def build(self) -> Check:
        return FieldsCheck()


class FieldsCheck(Check):
    """`no_fields`, `broken_fields`: told the form again; a text that the token limit cuts off gets more tokens."""

    remedies: ClassVar[Remedies] = {"no_fields": (Remedy.PROMPT,), "broken_fields": (Remedy.PROMPT, Remedy.TOKENS)}

    def of_caption(self, record: CaptionRecord, evidence: Evidence) -> Iterator[Finding]:
        if record.level != "fields" or not record.text:
            return
        salvaged = salvage(record.text)
        if salvaged.fields is None:
            detail = "the text has none of the fields"
            yield Finding(
                code="no_fields",
                status=CaptionStatus.REJECTED,
                detail=detail,
                remedy=Remedy.PROMPT,
                instruction=INSTRUCTION,
            )
        elif not salvaged.is_whole:
            yield Finding(
                code="broken_fields",
                status=CaptionStatus.OK,
                detail="the JSON object is damaged; what can be read is used",
                remedy=Remedy.TOKENS if record.finish_reason == "length" else Remedy.PROMPT,
                instruction=INSTRUCTION,
            )
